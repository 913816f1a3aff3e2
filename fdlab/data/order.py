"""Which rows make up the batch of a step: a pure function, so that resuming needs one number and no state.

The data are an endless stream: the permutation of epoch 0, that of epoch 1, and so on, each from (seed,
epoch). Step s takes the next world x batch rows of it, and each rank its own share.

Where pictures have several shapes, each shape is such a stream of its own, and an epoch takes whole batches
from all of them in drawn order: from each as many as keep its pictures, over the epochs, as often shown as
any other's. A step's batch is of one shape on all ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from fdlab.randomness import numpy_rng


@lru_cache(maxsize=64)
def permutation(seed: int, num_rows: int, epoch: int, *group: int) -> np.ndarray:
    """Order of the rows in one epoch; of one group of them, where there are several."""
    order = numpy_rng(seed, "order", epoch, *group).permutation(num_rows)
    order.setflags(write=False)
    return order


def stream(seed: int, num_rows: int, start: int, count: int, *group: int) -> list[int]:
    """Rows `start` to `start + count` of the endless stream."""
    return [
        int(permutation(seed, num_rows, place // num_rows, *group)[place % num_rows])
        for place in range(start, start + count)
    ]


def rows(seed: int, num_rows: int, batch_size: int, step: int, rank: int = 0, world: int = 1) -> list[int]:
    """Rows of one rank's batch at one step (the count of forward passes: accumulation counts each)."""
    return stream(seed, num_rows, (step * world + rank) * batch_size, batch_size)


def grouped_rows(
    seed: int, counts: Sequence[int], batch_size: int, step: int, rank: int = 0, world: int = 1
) -> tuple[int, list[int]]:
    """The group that a step takes, of groups with so many rows, and the rows in it of one rank's batch."""
    if len(counts) == 1:
        return 0, rows(seed, counts[0], batch_size, step, rank, world)
    group, turn = _turn(seed, tuple(counts), batch_size * world, step)
    return group, stream(seed, counts[group], (turn * world + rank) * batch_size, batch_size, group)


def _turn(seed: int, counts: tuple[int, ...], taken: int, step: int) -> tuple[int, int]:
    """The group of a step, and how many steps took it before."""
    epoch = step * taken // sum(counts)
    while _before(counts, taken, epoch + 1) <= step:
        epoch += 1
    while _before(counts, taken, epoch) > step:
        epoch -= 1
    order = _epoch(seed, counts, taken, epoch)
    place = step - _before(counts, taken, epoch)
    group = int(order[place])
    return group, epoch * counts[group] // taken + int((order[:place] == group).sum())


def _before(counts: tuple[int, ...], taken: int, epoch: int) -> int:
    """Steps before an epoch."""
    return sum(epoch * count // taken for count in counts)


@lru_cache(maxsize=8)
def _epoch(seed: int, counts: tuple[int, ...], taken: int, epoch: int) -> np.ndarray:
    """The group of each step of an epoch."""
    turns = [(epoch + 1) * count // taken - epoch * count // taken for count in counts]
    order = numpy_rng(seed, "groups", epoch).permutation(np.repeat(np.arange(len(counts)), turns))
    order.setflags(write=False)
    return order
