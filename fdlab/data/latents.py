"""Latents of pictures and back, for any autoencoder with AutoencoderKL's interface: scaled as the denoiser
takes them; and the identity of the encoder that made them.

Axes: B batch, C channels, H W grid, 3 RGB.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fdlab.transforms.inputs import to_model

DECODED = 2**13
"""Two pictures of 512 px, whose decoding in fp32 holds about 1.5 GiB."""


def encode_pixels(vae: Any, x_B3HW: Tensor) -> Tensor:
    """Pixels in [-1, 1] to scaled posterior means (BCHW float32), (mean - shift) * scale; no gradient."""
    with torch.no_grad():
        raw_BCHW = vae.encode(x_B3HW.to(next(vae.parameters()).dtype)).latent_dist.mean
        return ((raw_BCHW - _shift(vae)) * vae.config.scaling_factor).float()


def decode_latents(vae: Any, z_BCHW: Tensor) -> Tensor:
    """Scaled latents to pixels B3HW, about [-1, 1], not clamped."""
    return vae.decode(z_BCHW / vae.config.scaling_factor + _shift(vae)).sample


def decode_in_parts(vae: Any, z_BCHW: Tensor) -> Tensor:
    """The same, a few pictures at a time where they are large: as many as have DECODED latents."""
    num = max(1, DECODED // (z_BCHW.shape[2] * z_BCHW.shape[3]))
    return torch.cat([decode_latents(vae, part_BCHW) for part_BCHW in z_BCHW.split(num)])


def spatial_factor(vae_config: Any) -> int:
    """Pixels a latent along one side: 2 to the number of halvings; the nano autoencoder's is 8."""
    widths = vae_config.get("block_out_channels")
    return 2 ** (len(widths) - 1) if widths else 8


def encode_images(vae: Any, images_BHW3: np.ndarray, device: torch.device | str = "cpu") -> np.ndarray:
    """Scaled posterior means (BCHW float32) of uint8 images."""
    return encode_pixels(vae, to_model(images_BHW3).to(device)).cpu().numpy()


def weights_hash(module: torch.nn.Module) -> str:
    """Hash of a network's weights as they lie in memory."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _shift(vae: Any) -> float:
    return getattr(vae.config, "shift_factor", None) or 0.0
