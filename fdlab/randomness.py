"""Randomness as a function: every draw comes from a generator seeded by (seed, purpose, indices).

Hence a result depends on what is drawn, never on the order, the batch, the worker or the rank that draws it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive(seed: int, purpose: str, *indices: int | str) -> int:
    """Hash (seed, purpose, indices) to an integer in [0, 2**63)."""
    text = "/".join([str(int(seed)), purpose, *(str(index) for index in indices)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def numpy_rng(seed: int, purpose: str, *indices: int | str) -> np.random.Generator:
    """A NumPy generator for one purpose."""
    return np.random.Generator(np.random.PCG64(derive(seed, purpose, *indices)))


def torch_generator(seed: int, purpose: str, *indices: int | str, device: str = "cpu") -> torch.Generator:
    """A torch generator for one purpose; on the CPU by default, so that devices agree."""
    import torch

    return torch.Generator(device=device).manual_seed(derive(seed, purpose, *indices))
