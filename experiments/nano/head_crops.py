"""References cropped to the head: a square from the landmarks, the person alone on noise.

Axes: N pictures, H W pixels, S side of a crop.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fdlab.transforms.inputs import normalise

SIDE, DOWN = 3.3, 0.25
"""In distances from the eyes to the mouth: the square's side, and its middle below the eyes."""


def windows(landmarks_N52: Tensor) -> tuple[Tensor, Tensor]:
    """Middle (N, 2) and side (N) in pixels of the squares."""
    eyes, mouth = landmarks_N52[:, :2].mean(1), landmarks_N52[:, 3:].mean(1)
    return eyes + DOWN * (mouth - eyes), SIDE * (mouth - eyes).norm(dim=1)


def crops(
    images_NHW3: np.ndarray,
    people_NHW: np.ndarray,
    landmarks_N52: Tensor,
    size: int,
    rng: np.random.Generator,
    jitter: float = 0.0,
    mirror: bool = False,
) -> Tensor:
    """Crops as the image encoder takes them (N, 3, S, S); `jitter` moves and scales them by so much."""
    alpha = torch.from_numpy(np.asarray(people_NHW)).float()[:, None]
    colour = torch.from_numpy(images_NHW3).permute(0, 3, 1, 2).float() / 255
    middle, side = windows(landmarks_N52)
    num, height = len(colour), colour.shape[2]
    if jitter:
        draw = torch.from_numpy(rng.uniform(-1, 1, (num, 3)).astype(np.float32))
        side = side * (1 + 1.5 * jitter * draw[:, 0])
        middle = middle + side[:, None] * jitter * 0.6 * draw[:, 1:]
    flip = torch.from_numpy(np.where(mirror & (rng.random(num) < 0.5), -1.0, 1.0).astype(np.float32))
    line = (torch.arange(size) + 0.5) / size - 0.5
    down, right = torch.meshgrid(line, line, indexing="ij")
    x = middle[:, 0, None, None] + (side * flip)[:, None, None] * right
    y = middle[:, 1, None, None] + side[:, None, None] * down
    grid = torch.stack([x, y], -1) / height * 2 - 1
    cut = F.grid_sample(torch.cat([colour * alpha, alpha], 1), grid, align_corners=False)
    behind = torch.from_numpy(rng.random((num, 3, size, size), dtype=np.float32))
    return normalise(cut[:, :3] + behind * (1 - cut[:, 3:]))


@torch.no_grad()
def embed(
    encoder: Any,
    images_NHW3: np.ndarray,
    people_NHW: np.ndarray,
    landmarks_N52: Tensor,
    seed: int = 0,
    batch: int = 64,
) -> Tensor:
    """Embeddings of the heads (N, E), float32 on the CPU."""
    rng, parts = np.random.default_rng(seed), []
    device, size = next(encoder.parameters()).device, int(encoder.config.image_size)
    for start in range(0, len(images_NHW3), batch):
        some = slice(start, start + batch)
        x = crops(images_NHW3[some], people_NHW[some], landmarks_N52[some], size, rng)
        with torch.autocast(device.type, torch.bfloat16):
            parts.append(encoder(pixel_values=x.to(device)).image_embeds.float().cpu())
    return torch.cat(parts)
