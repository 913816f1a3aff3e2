"""The denoising loop: any guider, any diffusers scheduler; it knows nothing of either.

Axes: B batch, C latent channels, H W latent grid.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fdlab.diffusion.flow import schedule_of
from fdlab.diffusion.timesteps import num_calls, sampler_timesteps, steps_of
from fdlab.errors import UserError

Guider = Callable[[Tensor, Tensor, int], Tensor]
"""(z_BCHW scaled for the model, t scalar, step) -> the model's output: eps, v or a velocity; (B, C, H, W)."""

Callback = Callable[[int, Tensor, Tensor], "Tensor | None"]
"""(call, t, z_BCHW after it) -> latents to go on with, or None to keep them."""

Noise = torch.Generator | list[torch.Generator] | None
"""Where a sampler with eta takes its noise from: one generator, or one an image."""


class Step(NamedTuple):
    """What one call of the guider led to."""

    call: int
    """Counted from 0; schedulers of second order and PNDM make more calls than steps."""
    t: Tensor
    z_BCHW: Tensor
    """Latents after it."""
    seen_BCHW: Tensor
    """Latents as the guider saw them, scaled for the model."""
    output_BCHW: Tensor


def trajectory(
    guider: Guider,
    scheduler: Any,
    z_BCHW: Tensor,
    num_steps: int,
    generator: Noise = None,
    eta: float = 0.0,
    final_sigma: float = 0.0,
) -> Generator[Step, Tensor | None, None]:
    """Denoise standard normal latents, yielding after each call of the guider.

    What is sent back replaces the latents. The guider is told the step that a timestep belongs to, see
    `steps_of`: the number of the call where a scheduler makes one call a step. `eta` in [0, 1] is DDIM's
    (Song et al. 2021, eq. 16) and needs `generator`. At the first call at or below the noise level
    `final_sigma` = s_t / a_t the clean latents that it predicts are the end; 0 follows the scheduler to its
    last step. Raises UserError for a scheduler without eta, or no generator.
    """
    options = _step_options(scheduler, generator, eta)
    timesteps_S = sampler_timesteps(scheduler, num_steps, z_BCHW.device)
    schedule = schedule_of(scheduler.config)
    last = num_calls(timesteps_S, schedule, final_sigma) - 1 if final_sigma else len(timesteps_S)
    # Flow matching's schedulers scale neither the first latents nor those that the model sees.
    scaled = getattr(scheduler, "scale_model_input", lambda z_BCHW, _: z_BCHW)
    z_BCHW = z_BCHW * getattr(scheduler, "init_noise_sigma", 1.0)
    for call, (t, step) in enumerate(zip(timesteps_S, steps_of(timesteps_S, num_steps), strict=True)):
        # Not around the yield: the caller's gradients are its own business.
        with torch.no_grad():
            seen_BCHW = scaled(z_BCHW, t)
            output_BCHW = guider(seen_BCHW, t, step).to(z_BCHW.dtype)
            if call < last:
                z_BCHW = scheduler.step(output_BCHW, t, z_BCHW, return_dict=False, **options)[0]
            else:
                z_BCHW = schedule.clean_at(seen_BCHW, output_BCHW, float(t))
        replaced = yield Step(call, t, z_BCHW, seen_BCHW, output_BCHW)
        z_BCHW = z_BCHW if replaced is None else replaced
        if call == last:
            return


def sample(
    guider: Guider,
    scheduler: Any,
    z_BCHW: Tensor,
    num_steps: int,
    callback: Callback | None = None,
    generator: Noise = None,
    eta: float = 0.0,
    final_sigma: float = 0.0,
) -> Tensor:
    """Denoise standard normal latents to the end; (B, C, H, W) in the dtype of `z_BCHW`. See `trajectory`."""
    steps = trajectory(guider, scheduler, z_BCHW, num_steps, generator, eta, final_sigma)
    replaced = None
    while True:
        try:
            step = steps.send(replaced)
        except StopIteration:
            return z_BCHW
        replaced = callback(step.call, step.t, step.z_BCHW) if callback is not None else None
        z_BCHW = step.z_BCHW if replaced is None else replaced


def check_eta(scheduler: Any, eta: float) -> None:
    """That a scheduler can add noise on the way. Raises: UserError."""
    if eta != 0.0 and "eta" not in inspect.signature(scheduler.step).parameters:
        raise UserError(f"eta is {eta}, but {type(scheduler).__name__} has no eta; use ddim, or eta=0.")
    if not 0.0 <= eta <= 1.0:
        raise UserError(f"eta is {eta}; it must lie in [0, 1].")


def _step_options(scheduler: Any, generator: Noise, eta: float) -> dict[str, Any]:
    accepted = inspect.signature(scheduler.step).parameters
    options: dict[str, Any] = {}
    check_eta(scheduler, eta)
    if eta != 0.0:
        if generator is None:
            raise UserError(
                f"eta is {eta}: the sampler adds noise and needs a generator, one or one an image."
            )
        options["eta"] = eta
    if generator is not None and "generator" in accepted:
        options["generator"] = generator
    return options
