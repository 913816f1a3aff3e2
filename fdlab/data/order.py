"""Which rows make up the batch of a step: a pure function, so that resuming needs one number and no state.

The data are an endless stream: the permutation of epoch 0, that of epoch 1, and so on, each from (seed,
epoch). Step s takes the next world x batch rows of it, and each rank its own share.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fdlab.randomness import numpy_rng


@lru_cache(maxsize=4)
def permutation(seed: int, num_rows: int, epoch: int) -> np.ndarray:
    """Order of the rows in one epoch."""
    order = numpy_rng(seed, "order", epoch).permutation(num_rows)
    order.setflags(write=False)
    return order


def stream(seed: int, num_rows: int, start: int, count: int) -> list[int]:
    """Rows `start` to `start + count` of the endless stream."""
    return [
        int(permutation(seed, num_rows, place // num_rows)[place % num_rows])
        for place in range(start, start + count)
    ]


def rows(seed: int, num_rows: int, batch_size: int, step: int, rank: int = 0, world: int = 1) -> list[int]:
    """Rows of one rank's batch at one step (the count of forward passes: accumulation counts each)."""
    return stream(seed, num_rows, (step * world + rank) * batch_size, batch_size)
