"""The noise that a call starts from. Axes: B pictures, C latent channels, H W latent grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from fdlab.diffusion.initial import latents as seeded_latents
from fdlab.diffusion.initial import step_generators
from fdlab.diffusion.sampler import Noise
from fdlab.errors import UserError
from fdlab.models.denoiser import grid_step


def latent_shape(unet: Any, factor: int, height: int | None, width: int | None) -> tuple[int, int, int]:
    """(C, H, W) of a UNet's latents for a picture of height x width pixels, of its own size where None.

    Raises: UserError for a size that its halvings do not divide.
    """
    own = unet.config.sample_size
    own_HW = (own, own) if isinstance(own, int) else tuple(own)
    step = factor * grid_step(unet.config)
    sides = []
    for name, pixels, cells in (("height", height, own_HW[0]), ("width", width, own_HW[1])):
        pixels = cells * factor if pixels is None else pixels
        if pixels <= 0 or pixels % step:
            raise UserError(f"{name} is {pixels}; it must be a positive multiple of {step}.")
        sides.append(pixels // factor)
    return unet.config.in_channels, sides[0], sides[1]


def starting_noise(
    shape_BCHW: tuple[int, ...],
    seeds: Sequence[int] | None,
    generator: Noise,
    latents: Tensor | None,
    device: torch.device,
    eta: float,
) -> tuple[Tensor, Noise]:
    """Latents z_BCHW, fp32 and standard normal, and the generators for noise on the way.

    From one of seeds (one a picture), a generator (or one a picture), given latents, or torch's own stream.
    Raises: UserError for two of them, or the wrong number.
    """
    batch = shape_BCHW[0]
    if latents is not None and latents.shape != shape_BCHW:
        raise UserError(f"latents have shape {tuple(latents.shape)}; {shape_BCHW} is needed.")
    if isinstance(generator, list) and len(generator) != batch:
        raise UserError(f"{len(generator)} generators for {batch} pictures: give one, or one a picture.")
    if seeds is not None:
        if generator is not None or latents is not None:
            raise UserError("give one of seeds, generator and latents; not several.")
        if len(seeds) != batch:
            raise UserError(f"{len(seeds)} seeds for {batch} pictures: give one a picture.")
        return seeded_latents(seeds, shape_BCHW[1:], device=device), step_generators(seeds) if eta else None
    if latents is None:
        latents = randn_tensor(shape_BCHW, generator=generator, device=device, dtype=torch.float32)
    # Latents stay in fp32, whatever the models' dtype: half precision would round them at every step.
    return latents.to(device, torch.float32), generator
