"""Which rows a step takes, where pictures have one shape and where they have several."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from fdlab.data.order import grouped_rows, rows

COUNTS = (50, 7, 23)


def steps(
    num: int, batch_size: int = 4, rank: int = 0, world: int = 1, seed: int = 1
) -> list[tuple[int, list[int]]]:
    return [grouped_rows(seed, COUNTS, batch_size, step, rank, world) for step in range(num)]


def test_one_shape_is_the_plain_stream() -> None:
    for step in (0, 3, 40):
        assert grouped_rows(5, [11], 4, step, 1, 2) == (0, rows(5, 11, 4, step, 1, 2))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_steps_batch_is_of_one_shape_on_all_ranks_and_no_picture_twice(world: int) -> None:
    ranks = [steps(60, rank=rank, world=world) for rank in range(world)]
    for at_once in zip(*ranks, strict=True):
        assert len({group for group, _ in at_once}) == 1
    # As one process at a batch as large, whose ranks these are.
    whole = steps(60, batch_size=4 * world)
    joined = [[row for _, part in at_once for row in part] for at_once in zip(*ranks, strict=True)]
    assert joined == [part for _, part in whole]


def test_over_the_epochs_every_picture_is_shown_as_often() -> None:
    """Each shape's share of the steps is its share of the pictures, and within it each comes in turn."""
    num = 20 * sum(COUNTS) // 4
    shown: Counter[tuple[int, int]] = Counter((group, row) for group, part in steps(num) for row in part)
    assert len(shown) == sum(COUNTS)
    assert min(shown.values()) >= 19 and max(shown.values()) <= 21
    first = steps(sum(COUNTS) // 4 - 2)
    assert len({group for group, _ in first}) > 1, "shapes are mixed from the start"
    assert max(Counter((group, row) for group, part in first for row in part).values()) <= 2


def test_a_step_is_a_function_of_its_number() -> None:
    told = steps(200)
    drawn = np.random.default_rng(0).permutation(200)
    assert all(grouped_rows(1, COUNTS, 4, int(step)) == told[step] for step in drawn)
    assert [group for group, _ in told] != [group for group, _ in steps(200, seed=2)]


def test_fewer_pictures_than_a_batch_are_shown_too() -> None:
    groups = Counter(grouped_rows(0, (3, 2, 400), 64, step)[0] for step in range(2000))
    assert groups[0] == pytest.approx(2000 * 3 / 405, abs=1.01) and groups[1] == pytest.approx(
        2000 * 2 / 405, abs=1.01
    )
    assert grouped_rows(0, (1, 1), 8, 5)[1] == [0] * 8
