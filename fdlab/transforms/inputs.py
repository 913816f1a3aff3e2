"""Ranges and grids that the networks take.

Axes: B batch, H W pixels or latents, C channels, 3 RGB.
"""

from __future__ import annotations

import numpy as np
import torch

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Per-channel normalisation of CLIP's image encoders (openai/CLIP, preprocessor)."""


def normalise(image_C: torch.Tensor) -> torch.Tensor:
    """[0, 1] to the image encoder's range; the channel axis is the third from the end."""
    mean, std = image_C.new_tensor(CLIP_MEAN), image_C.new_tensor(CLIP_STD)
    return (image_C - mean[:, None, None]) / std[:, None, None]


def to_model(image_HW3: np.ndarray) -> torch.Tensor:
    """uint8 HW3 (or BHW3) to float 3HW (B3HW) in [-1, 1], as the autoencoder takes it."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(image_HW3, -1, -3))).float() / 127.5 - 1


def latent_mask(mask_HW: np.ndarray, height: int, width: int) -> np.ndarray:
    """Area-pool a mask to the latent grid and threshold at one half (uint8 0/1); never empty if `mask_HW` is
    not.

    A person smaller than half a latent keeps the latent with most of it.
    """
    pooled_HW = torch.nn.functional.adaptive_avg_pool2d(
        torch.from_numpy(np.asarray(mask_HW, np.float32))[None, None], (height, width)
    )[0, 0].numpy()
    mask = pooled_HW > 0.5
    if not mask.any() and pooled_HW.any():
        mask = pooled_HW == pooled_HW.max()
    return mask.astype(np.uint8)
