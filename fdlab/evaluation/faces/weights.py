"""Networks that measure: weights from a safetensors file, frozen, in evaluation mode, known by their hash."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from fdlab.errors import UserError
from fdlab.files import sha256

SHIPPED = Path(__file__).parents[2] / "assets" / "faces"


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read every tensor of a safetensors file to the CPU; UserError where it is missing."""
    if not path.is_file():
        raise UserError(f"weights '{path}' are missing; they ship with fdlab: install it again.")
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)


def freeze(module: nn.Module, device: torch.device | str = "cpu") -> nn.Module:
    """Move to `device`, evaluation mode, no gradient to the weights (gradient to the input still flows)."""
    return module.to(device).eval().requires_grad_(False)


@lru_cache
def weight_sha256(path: Path) -> str:
    """Hex digest of a weight file, computed once a process."""
    return sha256(path)
