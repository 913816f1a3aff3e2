"""Shapes at one budget, and who gets which."""

from __future__ import annotations

from itertools import pairwise

import pytest

from fdlab.transforms.buckets import assigned, shapes


@pytest.mark.parametrize(
    ("side", "unit", "longest"), [(512, 64, 2.0), (128, 32, 2.0), (768, 64, 3.0), (64, 8, 1.5)]
)
def test_shapes_fill_the_budget(side: int, unit: int, longest: float) -> None:
    found = shapes(side, unit, longest)
    assert (side, side) in found and set(found) == {(width, height) for height, width in found}
    for height, width in found:
        assert height % unit == width % unit == 0 and max(height / width, width / height) <= longest
        # Nothing larger fits beside its shorter side.
        assert height * width <= side * side < min(height, width) * (max(height, width) + unit)
    ratios = [height / width for height, width in found]
    assert all(before > after for before, after in pairwise(ratios))


def test_shapes_of_stable_diffusion() -> None:
    wide = [(512, 512), (448, 576), (384, 640)]
    assert shapes(512, 64, 2.0) == [(640, 384), (576, 448), *wide]
    assert shapes(512, 64, 1.0) == [(512, 512)]


def test_the_nearest_shape_that_enough_pictures_have() -> None:
    allowed = [(160, 96), (128, 128), (96, 160)]
    tall, square, wide = (900, 500), (700, 700), (500, 620)
    assert assigned([tall] * 9 + [square, None] * 5 + [(100, 170)] * 9, allowed) == (
        [(160, 96)] * 9 + [(128, 128)] * 10 + [(96, 160)] * 9
    )
    # 1.24 lies nearer to 1 than to 5:3 by their logarithms; three tall ones are too few for a shape.
    assert assigned([wide] * 20 + [tall] * 3, allowed) == [(128, 128)] * 23
    assert assigned([tall] * 2, allowed) == [(160, 96)] * 2
