"""The denoising loop: any guider, any diffusers scheduler; it knows nothing of either.

Axes: B batch, C latent channels, H W latent grid.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from typing import Any

import torch
from torch import Tensor

from fdlab.diffusion.timesteps import sampler_timesteps
from fdlab.errors import UserError

Guider = Callable[[Tensor, Tensor, int], Tensor]
"""(z_BCHW scaled for the model, t scalar, step) -> the model's output, eps or v; (B, C, H, W)."""

Callback = Callable[[int, Tensor, Tensor], "Tensor | None"]
"""(step, t, z_BCHW after the step) -> latents to go on with, or None to keep them."""

Noise = torch.Generator | list[torch.Generator] | None
"""Where a sampler with eta takes its noise from: one generator, or one an image."""


def trajectory(
    guider: Guider,
    scheduler: Any,
    z_BCHW: Tensor,
    num_steps: int,
    generator: Noise = None,
    eta: float = 0.0,
) -> Generator[tuple[int, Tensor, Tensor], Tensor | None, None]:
    """Denoise standard normal latents step by step: yields (step, t, z_BCHW after the step).

    What is sent back replaces the latents. `step` counts the guider's calls from 0; PNDM makes num_steps + 1.
    `eta` in [0, 1] is DDIM's (Song et al. 2021, eq. 16) and needs `generator`. Raises UserError for a
    scheduler without eta, or no generator.
    """
    options = _step_options(scheduler, generator, eta)
    timesteps_S = sampler_timesteps(scheduler, num_steps, z_BCHW.device)
    z_BCHW = z_BCHW * scheduler.init_noise_sigma
    for step, t in enumerate(timesteps_S):
        # Not around the yield: the caller's gradients are its own business.
        with torch.no_grad():
            output_BCHW = guider(scheduler.scale_model_input(z_BCHW, t), t, step).to(z_BCHW.dtype)
            z_BCHW = scheduler.step(output_BCHW, t, z_BCHW, return_dict=False, **options)[0]
        replaced = yield step, t, z_BCHW
        z_BCHW = z_BCHW if replaced is None else replaced


def sample(
    guider: Guider,
    scheduler: Any,
    z_BCHW: Tensor,
    num_steps: int,
    callback: Callback | None = None,
    generator: Noise = None,
    eta: float = 0.0,
) -> Tensor:
    """Denoise standard normal latents to the end; (B, C, H, W) in the dtype of `z_BCHW`. See `trajectory`."""
    steps = trajectory(guider, scheduler, z_BCHW, num_steps, generator, eta)
    replaced = None
    while True:
        try:
            step, t, z_BCHW = steps.send(replaced)
        except StopIteration:
            return z_BCHW
        replaced = callback(step, t, z_BCHW) if callback is not None else None
        z_BCHW = z_BCHW if replaced is None else replaced


def _step_options(scheduler: Any, generator: Noise, eta: float) -> dict[str, Any]:
    accepted = inspect.signature(scheduler.step).parameters
    options: dict[str, Any] = {}
    if eta != 0.0:
        if "eta" not in accepted:
            raise UserError(f"eta is {eta}, but {type(scheduler).__name__} has no eta; use ddim, or eta=0.")
        if not 0.0 <= eta <= 1.0:
            raise UserError(f"eta is {eta}; it must lie in [0, 1].")
        if generator is None:
            raise UserError(
                f"eta is {eta}: the sampler adds noise and needs a generator, one or one an image."
            )
        options["eta"] = eta
    if generator is not None and "generator" in accepted:
        options["generator"] = generator
    return options
