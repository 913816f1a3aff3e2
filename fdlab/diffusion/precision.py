"""The precision of small sums: float32 at least, whatever the networks run in."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32, or in float64 if it is; differentiable."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
