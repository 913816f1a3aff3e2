"""Random numbers of a batch that several processes share: two of them see what one would with both batches.

Axes: B samples of this process.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """Draws, from a generator that all processes seed alike, for the samples of all of them, and gives this
    one its own."""

    generator: torch.Generator
    """On the CPU, so that devices agree."""
    rank: int = 0
    world: int = 1

    def normal(self, *shape_B: int) -> Tensor:
        """Standard normal numbers; the first axis counts samples."""
        return self.own(torch.randn(self.all(shape_B[0]), *shape_B[1:], generator=self.generator))

    def uniform(self, *shape_B: int) -> Tensor:
        """Numbers of [0, 1); the first axis counts samples."""
        return self.own(torch.rand(self.all(shape_B[0]), *shape_B[1:], generator=self.generator))

    def coins(self, probability: float, *shape_B: int) -> Tensor:
        """Booleans, true with `probability`; draws the same amount whatever the probability."""
        return self.uniform(*shape_B) < probability

    def coin(self, probability: float) -> Tensor:
        """One boolean for the samples of all processes (1,)."""
        return torch.rand(1, generator=self.generator) < probability

    def all(self, num: int) -> int:
        """Samples of all processes, where this one has `num`."""
        return self.world * num

    def own(self, whole: Tensor) -> Tensor:
        """This process's part of what was drawn for all."""
        num = len(whole) // self.world
        return whole[self.rank * num : (self.rank + 1) * num]
