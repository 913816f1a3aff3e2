"""diffusers' schedulers by name, with Stable Diffusion's settings and the model's own prediction type."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from fdlab.diffusion.flow import FLOW, FlowSchedule, is_flow
from fdlab.diffusion.noise import STABLE_DIFFUSION, check_prediction
from fdlab.errors import UserError, unknown

SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "pndm": ("PNDMScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
}
"""Class and settings of each; a name may also be written as "DPM++ 2M"."""

_FLOW: dict[str, Any] = {"prediction_type": FLOW, "use_flow_sigmas": True}
FLOW_SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": ("FlowMatchEulerDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {**SCHEDULERS["dpmpp_2m"][1], **_FLOW}),
    "unipc": ("UniPCMultistepScheduler", _FLOW),
}
"""Those for models of flow matching; the first is their own."""

SPACINGS = ("leading", "trailing", "linspace")


def check_scheduler(name: str, spacing: str | None = None) -> str:
    """The key in SCHEDULERS of a name as people write it. Raises: UserError, also for an unknown spacing."""
    key = str(name).lower().replace("++", "pp").replace(" ", "_").replace("-", "_")
    if key not in SCHEDULERS:
        raise unknown("scheduler", str(name), SCHEDULERS)
    if spacing is not None and spacing not in SPACINGS:
        raise unknown("timestep spacing", str(spacing), SPACINGS)
    return key


def make_scheduler(name: str, config: Mapping[str, Any], spacing: str | None = None) -> Any:
    """Build a scheduler for a model trained with the scheduler `config` (diffusers' keys).

    A key absent from `config` takes Stable Diffusion's value, never the class default, which is another.
    `spacing` of the timesteps: None keeps the config's, else "leading", or "trailing" at zero terminal SNR,
    where sampling has to start at the last timestep (Lin et al. 2024, section 3.3). Raises UserError for an
    unknown name, spacing or prediction type, and for zero terminal SNR with epsilon or PNDM.
    """
    key = check_scheduler(name, spacing)
    if is_flow(config):
        return _make_flow(key, config, spacing)
    check_prediction(config)
    class_name, settings = SCHEDULERS[key]
    scheduler_class = getattr(importlib.import_module("diffusers"), class_name)
    accepted = inspect.signature(scheduler_class.__init__).parameters

    zero_snr = bool(config.get("rescale_betas_zero_snr"))
    if zero_snr and "rescale_betas_zero_snr" not in accepted:
        others = ", ".join(other for other in SCHEDULERS if other != key)
        raise UserError(
            f"scheduler '{name}' cannot start at zero terminal signal-to-noise ratio; use one of: {others}."
        )
    default = {"timestep_spacing": "trailing" if zero_snr else "leading"}
    merged = {**STABLE_DIFFUSION, **default, **config, **settings}
    if spacing is not None:
        merged["timestep_spacing"] = spacing
    return scheduler_class(
        **{key: value for key, value in merged.items() if key in accepted and value is not None}
    )


def at_zero_snr(config: Mapping[str, Any]) -> dict[str, Any]:
    """The scheduler config of a model whose last training step is noise alone, so that diffusers by itself
    samples it as is needed: a class that knows of it, from the last timestep on (Lin et al. 2024)."""
    made = {**config, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    knows = any(name == config.get("_class_name") for name in ("DDIMScheduler", "EulerDiscreteScheduler"))
    if knows:
        return made
    made = {**STABLE_DIFFUSION, **made, "_class_name": "DDIMScheduler"}
    return {key: value for key, value in made.items() if key != "skip_prk_steps"}


def usual(config: Mapping[str, Any]) -> str:
    """The name of the scheduler that suits a model where nobody chooses one."""
    return next(iter(FLOW_SCHEDULERS)) if is_flow(config) else "ddim"


def _make_flow(key: str, config: Mapping[str, Any], spacing: str | None) -> Any:
    """The scheduler `key` for a model of flow matching, with its shift. Raises: UserError."""
    if key not in FLOW_SCHEDULERS:
        raise UserError(
            f"scheduler '{key}' is none for a model of flow matching;"
            f" use one of: {', '.join(FLOW_SCHEDULERS)}."
        )
    if spacing is not None:
        raise UserError(f"spacing is {spacing}; a model of flow matching has its own: leave it null.")
    schedule = FlowSchedule.from_config(config)
    class_name, settings = FLOW_SCHEDULERS[key]
    scheduler_class = getattr(importlib.import_module("diffusers"), class_name)
    accepted = inspect.signature(scheduler_class.__init__).parameters
    given = {name: value for name, value in config.items() if name in accepted}
    shift = {"shift" if key == "euler" else "flow_shift": schedule.shift}
    return scheduler_class(**{**given, **shift, **settings})
