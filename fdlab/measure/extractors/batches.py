"""A network run over many pictures, some at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fdlab.measure.resize import to_float


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
