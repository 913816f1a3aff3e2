"""Pictures of several shapes at one budget of pixels (NovelAI 2022): the nearest to each picture's own is
what it is cropped to, so that a tall one need not lose its people's feet.

Sizes are (height, width) in pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import log

from fdlab.transforms.framing import Size

FEWEST, SHARE = 8, 0.01
"""A shape is used where at least so many pictures, and this share of all, are nearest to it."""


def shapes(side: int, unit: int, longest: float) -> list[Size]:
    """Sizes in whole units, of at most side x side pixels and as many as fit, from tall to wide; the square
    is one of them. `longest`: largest ratio of the sides."""
    if side % unit:
        raise ValueError(f"{side} is no multiple of {unit}")
    wide: list[Size] = [(side, side)]
    for height in range(side - unit, 0, -unit):
        width = side * side // height // unit * unit
        if width > longest * height:
            break
        # Of two of one width the higher shows more.
        if width > wide[-1][1]:
            wide.append((height, width))
    tall = [(width, height) for height, width in wide[:0:-1]]
    return tall + wide


def assigned(sizes: Sequence[Size | None], allowed: Sequence[Size]) -> list[Size]:
    """Of the allowed sizes, that which each picture is shown at: the nearest in ratio of those that enough
    pictures are nearest to. None: a picture that cannot be read, which counts as square."""
    known = [size or (1, 1) for size in sizes]
    first = Counter(_nearest(size, allowed) for size in known)
    enough = max(FEWEST, SHARE * len(sizes))
    used = [size for size in allowed if first[size] >= enough]
    if not used:
        used = [max(allowed, key=lambda size: first[size])]
    return [_nearest(size, used) for size in known]


def _nearest(size: Size, allowed: Sequence[Size]) -> Size:
    ratio = log(size[0] / size[1])
    return min(allowed, key=lambda other: abs(log(other[0] / other[1]) - ratio))
