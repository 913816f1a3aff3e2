"""What a recogniser sees of the predicted clean picture: one minus the cosine to the true picture's face.

The face lies where the landmarks of the true picture are. faceres teaches; the judge, dlib, never does.
Axes: B batch,
C h w latents, E embedding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fdlab.measure.faces.recogniser import FaceresRecogniser

SWAPPED = [1, 0, 2, 4, 3]
"""Landmarks of a mirrored picture: left is right."""


class IdentityLoss:
    """Frozen decoder and recogniser, outside any module tree; differentiable in the latents."""

    def __init__(self, vae: Any, device: str, size: int = 128) -> None:
        self.vae = vae.to(device).requires_grad_(False)
        self.recogniser, self.size = FaceresRecogniser(device), size

    def __call__(
        self, clean_BChw: Tensor, landmarks_B52: Tensor, mirrored_B: Tensor, true_BE: Tensor
    ) -> Tensor:
        """Loss of each picture (B)."""
        config, device = self.vae.config, clean_BChw.device
        raw = clean_BChw / config.scaling_factor + (config.shift_factor or 0.0)
        with torch.autocast(device.type, torch.bfloat16):
            image = self.vae.decode(raw).sample
        image = (image.float().clamp(-1.2, 1.2) + 1) * 127.5
        other = landmarks_B52.clone()
        other[..., 0] = self.size - other[..., 0]
        landmarks = torch.where(mirrored_B[:, None, None], other[:, SWAPPED], landmarks_B52)
        index = torch.arange(len(image), device=device)
        chips = self.recogniser.chips(image, index, landmarks)
        with torch.autocast(device.type, torch.bfloat16):
            seen = self.recogniser.network(chips)
        return 1 - (self.recogniser.normalised(seen.float()) * true_BE).sum(1)
