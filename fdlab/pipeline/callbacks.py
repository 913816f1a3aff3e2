"""A caller's `callback_on_step_end`, as diffusers' pipelines have it, and as the loop takes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from fdlab.diffusion.flow import Schedule
from fdlab.diffusion.sampler import Step
from fdlab.errors import UserError

TENSORS = ("latents", "clean_latents")
"""What a callback may ask to be given."""
Callback = Callable[[Any, int, Tensor, dict[str, Any]], Any]


def check_tensors(asked: Sequence[str]) -> None:
    """Check the names that a callback asks for. Raises: UserError."""
    if set(asked) - set(TENSORS):
        allowed = ", ".join(TENSORS)
        raise UserError(f"callback_on_step_end_tensor_inputs is {list(asked)}; allowed: {allowed}.")


def after_step(
    callback: Callback | None, pipeline: Any, asked: Sequence[str], schedule: Schedule
) -> Callable[[Step], Tensor | None] | None:
    """What to call after each step, which returns the latents to go on with, or None."""
    if callback is None:
        return None
    known: dict[str, Callable[[Step], Tensor]] = {
        "latents": lambda step: step.z_BCHW,
        "clean_latents": lambda step: schedule.clean_at(step.seen_BCHW, step.output_BCHW, float(step.t)),
    }

    def after(step: Step) -> Tensor | None:
        answer = callback(pipeline, step.call, step.t, {key: known[key](step) for key in asked})
        return (answer or {}).get("latents")

    return after
