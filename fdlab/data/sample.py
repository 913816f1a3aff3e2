"""One picture of people, as every layout on disk delivers it.

Axes: H W pixels, 3 RGB.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Subject:
    """One person of a picture."""

    segment: int
    """Value of this person's pixels in the segment map."""
    end: int
    """Character offset in the caption just after the person's noun phrase."""
    bbox: tuple[int, int, int, int]
    """x1, y1, x2, y2 in pixels, x2 and y2 exclusive."""
    identity: int | None = None
    """Which person it is, where that is known."""


@dataclass(frozen=True)
class PersonSample:
    """A picture with caption, instance masks and subjects."""

    id: str
    caption: str
    """Plain caption, without markers."""
    image_HW3: np.ndarray
    """uint8 RGB."""
    segments_HW: np.ndarray
    """Integer label map; 0 is background."""
    subjects: tuple[Subject, ...]
    truth: dict[str, Any] = field(default_factory=dict)
    """What a renderer knows: scene, style, attributes. Empty for photographs."""
