"""One detected face, and the helpers that choose among several.

Coordinates are continuous: pixel (row i, column j) covers [j, j + 1) x [i, i + 1), and points are (x, y).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

LANDMARKS = ("left eye", "right eye", "nose tip", "left mouth corner", "right mouth corner")
"""Order of `Face.landmarks_52`; left and right as the viewer sees them."""


@dataclass(frozen=True)
class Face:
    """A face in a picture, in that picture's pixels."""

    box: tuple[float, float, float, float]
    """x1, y1, x2, y2; may reach past the border of the picture."""
    score: float
    """Probability that this is a face, in [0, 1]."""
    landmarks_52: np.ndarray
    """float32 (x, y) of five points, in the order of `LANDMARKS`."""


class Boxed(Protocol):
    """Anything with a box."""

    @property
    def box(self) -> tuple[float, float, float, float]: ...


B = TypeVar("B", bound=Boxed)


def area(face: Boxed) -> float:
    """Area of a face's box in square pixels."""
    x1, y1, x2, y2 = face.box
    return max(0.0, x2 - x1) * max(0.0, y2 - y1)


def by_size(faces: Sequence[B]) -> list[B]:
    """Faces, the largest box first; of equals the earlier first."""
    return sorted(faces, key=area, reverse=True)


def largest(faces: Sequence[B]) -> B | None:
    """The face with the largest box, or None where there is none."""
    return next(iter(by_size(faces)), None)
