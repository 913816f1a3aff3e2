"""Guiders: the rules that turn one or two models into the noise of a step.

To add one, add a file here, which gives it its name, and conf/sampler/NAME.yaml. Its class has a DESCRIPTION
of one line; its constructor's parameters say what it needs of `build`; the keyword-only ones are its options,
each with the `Limit` of its values in its annotation.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any, get_type_hints

from fdlab.diffusion.flow import Schedule
from fdlab.diffusion.guidance import Guidance
from fdlab.diffusion.guiders.model import Denoiser, Model
from fdlab.diffusion.guiders.options import Limit
from fdlab.diffusion.guiders.staged import Recorder, Trace
from fdlab.diffusion.sampler import Guider
from fdlab.errors import UserError, unknown

__all__ = [
    "GUIDERS",
    "Denoiser",
    "Guider",
    "Limit",
    "Model",
    "Recorder",
    "Trace",
    "build",
    "check",
    "describe",
    "discover",
    "limits",
    "looks_at_attention",
    "needs",
    "options",
]


def discover() -> dict[str, type]:
    """The guiders of this folder's files, by the files' names."""
    found: dict[str, type] = {}
    for entry in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{entry.name}")
        for item in vars(module).values():
            if getattr(item, "__module__", "") == module.__name__ and hasattr(item, "DESCRIPTION"):
                found[entry.name] = item
    return found


GUIDERS: dict[str, type] = discover()


def needs(name: str) -> tuple[str, ...]:
    """Which of the models "tdm" and "sdm" a guider calls."""
    return tuple(model for model in ("tdm", "sdm") if model in _parameters(name))


def looks_at_attention(name: str) -> bool:
    """Whether a guider asks a denoiser for cross-attention."""
    return bool(getattr(GUIDERS[name], "LOOKS_AT_ATTENTION", False))


def describe(name: str) -> str:
    """A guider in one line."""
    _parameters(name)
    return str(GUIDERS[name].DESCRIPTION)  # type: ignore[attr-defined]


def limits(name: str) -> dict[str, Limit]:
    """What a guider's options may be; one without a limit is left out."""
    hints = get_type_hints(GUIDERS[name].__init__, include_extras=True)  # type: ignore[misc]
    return {
        option: limit
        for option in options(name)
        for limit in getattr(hints.get(option), "__metadata__", ())
        if isinstance(limit, Limit)
    }


def options(name: str) -> dict[str, Any]:
    """A guider's own options and their defaults."""
    found = _parameters(name).values()
    return {
        parameter.name: parameter.default for parameter in found if parameter.kind is parameter.KEYWORD_ONLY
    }


def build(
    name: str,
    *,
    num_steps: int,
    guidance: Guidance | float,
    tdm: Model | None = None,
    sdm: Model | None = None,
    schedule: Schedule | None = None,
    recorder: Recorder | None = None,
    **given: Any,
) -> Guider:
    """Build the guider `name` from the models it needs and its options; see `options(name)`.

    `guidance` may be a plain scale; `schedule` matters for v prediction; `recorder` for guiders that trace.
    Raises UserError for an unknown name or option (with the nearest match), a bad value, or a missing model.
    """
    parameters, known = _parameters(name), limits(name)
    for key, value in given.items():
        if key not in options(name):
            raise unknown(f"option of guider '{name}'", key, options(name))
        if key in known:
            known[key].check(key, value)
    guidance = guidance if isinstance(guidance, Guidance) else Guidance(guidance)
    offered = {
        "tdm": tdm,
        "sdm": sdm,
        "guidance": guidance,
        "num_steps": num_steps,
        "schedule": schedule,
        "recorder": recorder,
    }
    for model in needs(name):
        if offered[model] is None:
            raise UserError(f"guider '{name}' needs a {model.upper()}, but none was given ({model}=PATH).")
    guider: Guider = GUIDERS[name](**{key: offered[key] for key in offered if key in parameters}, **given)
    return guider


def check(name: str, *, num_steps: int, guidance: Guidance | float, **given: Any) -> None:
    """Raise what `build` would for these options, without models."""
    nothing: Any = object()
    build(name, num_steps=num_steps, guidance=guidance, tdm=nothing, sdm=nothing, **given)


def _parameters(name: str) -> Any:
    if name not in GUIDERS:
        raise unknown("guider", str(name), GUIDERS)
    return inspect.signature(GUIDERS[name]).parameters
