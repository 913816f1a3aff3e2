"""The noise an image starts from and meets on its way: its own, whatever else is drawn beside it.

Axes: B batch, C latent channels, H W latent grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fdlab.randomness import torch_generator


def latents(
    seeds: Sequence[int],
    shape_CHW: Sequence[int],
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Standard normal noise (B, C, H, W), row i from seeds[i] alone; drawn on the CPU, so devices agree."""
    rows = [
        torch.randn(tuple(shape_CHW), generator=torch_generator(seed, "initial latents")) for seed in seeds
    ]
    return torch.stack(rows).to(device=device, dtype=dtype)


def step_generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """A generator an image, for samplers that add noise on their way (DDIM with eta > 0)."""
    return [torch_generator(seed, "sampler noise") for seed in seeds]
