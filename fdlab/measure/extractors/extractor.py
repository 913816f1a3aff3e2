"""What every feature extractor has in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from fdlab.measure.resize import to_float


@runtime_checkable
class Extractor(Protocol):
    """A frozen network that turns pictures into features, known by name, version and the hash of its weights.

    Two numbers may be compared only where all three agree. An extractor holds its network outside any module
    tree, so that it leaks into no checkpoint, no optimiser and no average.
    """

    name: str
    version: str
    sha256: str
    dim: int

    def __call__(self, images_BHW3: np.ndarray | Tensor) -> Tensor:
        """Features (B, dim) of uint8 RGB pictures, float32, on the CPU."""
        ...


@torch.no_grad()
def in_batches(
    network: Callable[[Tensor], Tensor],
    images_BHW3: np.ndarray | Tensor,
    dim: int,
    device: torch.device,
    batch_size: int = 32,
) -> Tensor:
    """Run `network` (float (b, 3, H, W) in 0..255 to (b, dim)) over the pictures, some at a time."""
    images = torch.as_tensor(images_BHW3)
    parts = [network(to_float(some, device)) for some in images.split(batch_size) if len(some)]
    return torch.cat(parts).float().cpu() if parts else torch.zeros(0, dim)
