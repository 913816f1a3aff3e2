"""Resizing as every extractor does it: antialiased, on floats, never rounded back to 8 bits.

Clean-FID (Parmar et al. 2022, arXiv 2104.11222) shows why: other resizers move FID by several points.
Axes: B pictures, H W pixels, 3 RGB.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fdlab.errors import UserError


def to_float(images_BHW3: np.ndarray | Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Move uint8 RGB pictures to `device` as float (B, 3, H, W) in 0..255; UserError on any other layout."""
    image = torch.as_tensor(images_BHW3)
    if image.dtype != torch.uint8 or image.ndim != 4 or image.shape[-1] != 3:
        raise UserError(
            f"pictures are {image.dtype} of shape {tuple(image.shape)}; needed: uint8 (B, H, W, 3) RGB."
        )
    return image.to(device).permute(0, 3, 1, 2).float()


def resize(
    image_B3HW: Tensor, size: tuple[int, int], mode: Literal["bilinear", "bicubic"] = "bicubic"
) -> Tensor:
    """Resize float pictures (0..255) to (height, width) as PIL does, but unrounded; stays in 0..255."""
    if tuple(image_B3HW.shape[-2:]) == tuple(size):
        return image_B3HW
    return F.interpolate(image_B3HW, size, mode=mode, antialias=True).clamp(0, 255)


def resize_and_crop(image_B3HW: Tensor, side: int) -> Tensor:
    """Resize the shorter side to `side` (bicubic) and crop the centre square, as CLIP does."""
    height, width = image_B3HW.shape[-2:]
    shorter = min(height, width)
    small = resize(image_B3HW, (height * side // shorter, width * side // shorter))
    top, left = (small.shape[-2] - side) // 2, (small.shape[-1] - side) // 2
    return small[..., top : top + side, left : left + side]
