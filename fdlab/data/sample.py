"""One picture of people, as every layout on disk delivers it.

Axes: H W pixels, 3 RGB.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fdlab.errors import UserError


class CorruptFile(UserError):
    """One sample of a data set cannot be used. What `data.skip_corrupt=true` passes over."""

    def __init__(self, message: str) -> None:
        # A DataLoader raises a worker's error anew, with its traceback as the message: its last line is ours.
        super().__init__(message.strip().rpartition(f"{__name__}.CorruptFile: ")[2])


@dataclass(frozen=True)
class ShownSubject:
    """One person that a picture shows, and its caption names."""

    segment: int
    """Value of this person's pixels in the segment map."""
    end: int
    """Character offset in the caption just after the person's noun phrase."""
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
    subjects: tuple[ShownSubject, ...]
    truth: dict[str, Any] = field(default_factory=dict)
    """What a renderer knows: scene, style, attributes. Empty for photographs."""
