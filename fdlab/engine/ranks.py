"""The processes that train together, as far as they share work out and put its parts together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this one is; one that works alone is the first of one.

    What waits or gathers is called by every process, or by none.
    """

    rank: int = 0
    world: int = 1

    @classmethod
    def here(cls) -> Ranks:
        """This process among those that it trains, or trained, with."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return cls()
        return cls(torch.distributed.get_rank(), torch.distributed.get_world_size())

    @property
    def is_first(self) -> bool:
        """Whether it is this one that writes what there is once."""
        return self.rank == 0

    @property
    def shard(self) -> str:
        """The same as a share of a benchmark's pictures: I/N."""
        return f"{self.rank}/{self.world}"

    def block(self, items: Sequence[T]) -> Sequence[T]:
        """This one's part of `items`: consecutive, so that all parts in the order of ranks are the whole."""
        return items[len(items) * self.rank // self.world : len(items) * (self.rank + 1) // self.world]

    def gathered(self, own: T) -> list[T]:
        """What every process has, in the order of ranks, in every process."""
        if self.world == 1:
            return [own]
        # Pickled by own processes for own processes: by way of the device where they speak over NCCL.
        found: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(found, own)
        return found

    def of_first(self, own: T) -> T:
        """What the first has, in every process."""
        return self.gathered(own)[0]

    def before(self, own: int, device: torch.device) -> int:
        """What the processes before this one have in all, of numbers of which this one has its `own`."""
        if self.world == 1:
            return 0
        mine = torch.tensor([own], device=device)
        found = [torch.zeros_like(mine) for _ in range(self.world)]
        torch.distributed.all_gather(found, mine)
        return int(torch.cat(found)[: self.rank].sum())

    def wait(self) -> None:
        """Until all are here."""
        self.gathered(None)


ALONE = Ranks()
