"""From latents to what a caller asked for. Axes: B pictures, C latent channels, H W grid or pixels, 3 RGB."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fdlab.errors import UserError, unknown

OUTPUT_TYPES = ("pil", "np", "pt", "latent")


def check_output_type(output_type: str, vae: Any) -> None:
    """Check the name, and that there is a VAE where one is needed. Raises: UserError."""
    if output_type not in OUTPUT_TYPES:
        raise unknown("output_type", output_type, OUTPUT_TYPES)
    if vae is None and output_type != "latent":
        raise UserError(f"output_type '{output_type}' needs a VAE, and the pipeline has none; use 'latent'.")


def as_output(z_BCHW: Tensor, output_type: str, decode: Callable[[Tensor], Tensor]) -> Any:
    """Decode latents to pixels B3HW about [-1, 1] and return them as "pil", "np", "pt" (see the pipeline);
    "latent" returns the latents. Raises: UserError for values that are not finite: black, as a picture."""
    _check_finite(z_BCHW, "latents")
    if output_type == "latent":
        return z_BCHW
    x_B3HW = decode(z_BCHW)
    _check_finite(x_B3HW, "pixels")
    unit_B3HW = ((x_B3HW + 1) / 2).clamp(0, 1)
    if output_type == "pt":
        return unit_B3HW
    if output_type == "np":
        return unit_B3HW.permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(image_HW3) for image_HW3 in to_uint8(unit_B3HW)]


def to_pixels(x_B3HW: Tensor) -> np.ndarray:
    """What an autoencoder decodes, about [-1, 1], to uint8 BHW3."""
    return to_uint8((x_B3HW.float() + 1) / 2)


def to_uint8(unit_B3HW: Tensor) -> np.ndarray:
    """Pixels in [0, 1] to uint8 BHW3, clipped and rounded."""
    scaled = (unit_B3HW.clamp(0, 1) * 255).round().to(torch.uint8)
    return np.asarray(scaled.permute(0, 2, 3, 1).cpu().numpy())


def _check_finite(values: Tensor, what: str) -> None:
    if not bool(torch.isfinite(values).all()):
        raise UserError(
            f"the {what} are not finite (NaN or infinity): weights, or settings such as guidance_scale, lead"
            " nowhere; no picture is made."
        )
