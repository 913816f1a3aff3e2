"""Guiders: the rules that turn one or two models into the noise of a step.

To add one, add a file here and a line in GUIDERS.
"""

from __future__ import annotations

import inspect
from typing import Any

from fdlab.diffusion.guidance import Guidance
from fdlab.diffusion.guiders.attention import AttentionUnion
from fdlab.diffusion.guiders.average import Average
from fdlab.diffusion.guiders.delayed import DelayedConditioning
from fdlab.diffusion.guiders.model import Denoiser, Model
from fdlab.diffusion.guiders.sdm import SubjectAugmented
from fdlab.diffusion.guiders.snf import SaliencyFusion
from fdlab.diffusion.guiders.staged import Recorder, Trace
from fdlab.diffusion.guiders.switch import Switch
from fdlab.diffusion.guiders.tdm import TextDriven
from fdlab.diffusion.noise import NoiseSchedule
from fdlab.diffusion.sampler import Guider
from fdlab.errors import UserError, unknown

__all__ = [
    "GUIDERS",
    "Denoiser",
    "Guider",
    "Model",
    "Recorder",
    "Trace",
    "build",
    "check",
    "needs",
    "options",
]

GUIDERS: dict[str, type] = {
    "tdm": TextDriven,
    "sdm": SubjectAugmented,
    "delayed": DelayedConditioning,
    "average": Average,
    "switch": Switch,
    "attention": AttentionUnion,
    "snf": SaliencyFusion,
}
"""By name. A constructor's parameters say what it needs of `build`; the keyword-only ones are its options."""


def needs(name: str) -> tuple[str, ...]:
    """Which of the models "tdm" and "sdm" a guider calls."""
    return tuple(model for model in ("tdm", "sdm") if model in _parameters(name))


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
    schedule: NoiseSchedule | None = None,
    recorder: Recorder | None = None,
    **chosen: Any,
) -> Guider:
    """Build the guider `name` from the models it needs and its options; see `options(name)`.

    `guidance` may be a plain scale; `schedule` matters for v prediction; `recorder` for guiders that trace.
    Raises UserError for an unknown name or option (with the nearest match), a bad value, or a missing model.
    """
    parameters = _parameters(name)
    for key in chosen:
        if key not in options(name):
            raise unknown(f"option of guider '{name}'", key, options(name))
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
    guider: Guider = GUIDERS[name](**{key: offered[key] for key in offered if key in parameters}, **chosen)
    return guider


def check(name: str, *, num_steps: int, guidance: Guidance | float, **chosen: Any) -> None:
    """Raise what `build` would for these options, without models."""
    nothing: Any = object()
    build(name, num_steps=num_steps, guidance=guidance, tdm=nothing, sdm=nothing, **chosen)


def _parameters(name: str) -> Any:
    if name not in GUIDERS:
        raise unknown("guider", str(name), GUIDERS)
    return inspect.signature(GUIDERS[name]).parameters
