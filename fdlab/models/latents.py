"""Pixels to scaled latents and back, for any autoencoder with AutoencoderKL's interface.

Axes: B batch, 3 RGB, C latent channels, H W grid.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def encode_images(vae: Any, x_B3HW: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Pixels in [-1, 1] to z = (posterior - shift) * scale; the posterior's mean, or a sample where a
    generator is given."""
    posterior = vae.encode(x_B3HW).latent_dist
    raw_BCHW = posterior.mean if generator is None else posterior.sample(generator)
    return (raw_BCHW - (getattr(vae.config, "shift_factor", None) or 0.0)) * vae.config.scaling_factor


def decode_latents(vae: Any, z_BCHW: Tensor) -> Tensor:
    """Scaled latents to pixels B3HW, about [-1, 1], not clamped."""
    raw_BCHW = z_BCHW / vae.config.scaling_factor + (getattr(vae.config, "shift_factor", None) or 0.0)
    return vae.decode(raw_BCHW).sample


def spatial_factor(vae_config: Any) -> int:
    """Pixels a latent along one side: 2 to the number of halvings; the nano autoencoder's is 8."""
    widths = vae_config.get("block_out_channels")
    return 2 ** (len(widths) - 1) if widths else 8
