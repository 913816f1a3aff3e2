"""Square chips sampled from pictures: bilinear, antialiased, batched over pictures, and differentiable.

Axes: B pictures, N chips, H W picture pixels, S chip side, P points. Matrices (2, 3) map a chip's continuous
coordinates (x, y in [0, S], pixel centres at .5) to the picture's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

POINTS_AT_ONCE = 1 << 20
"""Bounds the memory of one gather: 1 M points of 3 channels and 4 neighbours are 50 MB."""


def sample_chips(
    image_B3HW: Tensor, index_N: Tensor, matrix_N23: Tensor, size: int, supersample: int = 2
) -> Tensor:
    """Sample a square chip of `size` pixels for each similarity transform.

    A chip that shrinks its picture reads from a level of a 2x2 box pyramid on which it shrinks by less than
    two, and averages `supersample`^2 bilinear samples a pixel there. Outside the picture lies zero.
    image_B3HW float; index_N which picture each chip comes from; returns (N, 3, size, size) float.
    """
    num = len(index_N)
    if num == 0:
        return image_B3HW.new_zeros(0, image_B3HW.shape[1], size, size)
    scale_N = torch.linalg.det(matrix_N23[:, :, :2]).abs().sqrt()
    # One sample a pixel cannot average: then the nearest level is best, else the next finer one.
    shrink_N = torch.log2(scale_N.clamp(min=1e-6)) + (0.5 if supersample == 1 else 0.0)
    deepest = max(min(image_B3HW.shape[-2:]).bit_length() - 1, 0)
    level_N = shrink_N.floor().long().clamp(0, deepest)
    levels = _pyramid(image_B3HW, int(level_N.max()))

    step = max(1, POINTS_AT_ONCE // (size * supersample) ** 2)
    order, parts = [], []
    for level, image in enumerate(levels):
        rows = (level_N == level).nonzero().squeeze(1)
        for some in rows.split(step) if len(rows) else ():
            order.append(some)
            shape = (size, supersample, 2**level, *image_B3HW.shape[-2:])
            parts.append(_sample_level(image, index_N[some], matrix_N23[some], *shape))
    return torch.cat(parts)[torch.cat(order).argsort()]


def _pyramid(image_B3HW: Tensor, deepest: int) -> list[Tensor]:
    levels = [image_B3HW]
    for _ in range(deepest):
        levels.append(F.avg_pool2d(levels[-1], 2, ceil_mode=True, count_include_pad=False))
    return levels


def _sample_level(
    image_B3HW: Tensor,
    index_N: Tensor,
    matrix_N23: Tensor,
    size: int,
    supersample: int,
    factor: int,
    height: int,
    width: int,
) -> Tensor:
    """Read from one pyramid level, `factor` times smaller than the picture of `height` x `width`."""
    side = size * supersample
    line = (torch.arange(side, device=image_B3HW.device, dtype=matrix_N23.dtype) + 0.5) / supersample
    y_SS, x_SS = torch.meshgrid(line, line, indexing="ij")
    grid_3P = torch.stack([x_SS.flatten(), y_SS.flatten(), torch.ones_like(x_SS).flatten()])
    x_NP, y_NP = (matrix_N23 @ grid_3P).unbind(1)
    inside_NP = (x_NP >= 0) & (x_NP <= width) & (y_NP >= 0) & (y_NP <= height)
    value_NP3 = _bilinear(image_B3HW, index_N, x_NP / factor - 0.5, y_NP / factor - 0.5)
    value_N3P = (value_NP3 * inside_NP[..., None]).transpose(1, 2)
    chip_N3SS = value_N3P.reshape(len(index_N), -1, side, side)
    return F.avg_pool2d(chip_N3SS, supersample) if supersample > 1 else chip_N3SS


def _bilinear(image_B3HW: Tensor, index_N: Tensor, x_NP: Tensor, y_NP: Tensor) -> Tensor:
    """Interpolate picture index_N at array positions (pixel centres at integers), edges repeated: (N, P, 3).

    A gather, where `grid_sample` would need a copy of the whole picture for every chip.
    """
    channels, height, width = image_B3HW.shape[1:]
    pixel_Q3 = image_B3HW.permute(0, 2, 3, 1).reshape(-1, channels)
    base_N1 = (index_N * height * width)[:, None]
    x_NP, y_NP = x_NP.clamp(0, width - 1), y_NP.clamp(0, height - 1)
    x0_NP, y0_NP = x_NP.long(), y_NP.long()
    x1_NP, y1_NP = (x0_NP + 1).clamp(max=width - 1), (y0_NP + 1).clamp(max=height - 1)
    right_NP1, lower_NP1 = (x_NP - x0_NP)[..., None], (y_NP - y0_NP)[..., None]

    def row(y_NP: Tensor) -> Tensor:
        start_NP = base_N1 + y_NP * width
        return torch.lerp(pixel_Q3[start_NP + x0_NP], pixel_Q3[start_NP + x1_NP], right_NP1)

    return torch.lerp(row(y0_NP), row(y1_NP), lower_NP1)
