"""One picture of people, as every layout on disk delivers it.

Axes: H W pixels, 3 RGB.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fdlab.errors import UserError

LABEL = "person"
"""What rendered people, and FastComposer's subjects, are called."""


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
    label: str | None = LABEL
    """What the annotation calls it (`coco_label`); None: it does not say."""
    box: tuple[float, float, float, float] | None = field(default=None, compare=False)
    """x1, y1, x2, y2 in pixels as the annotation says it, the ends exclusive; None: it is the mask's."""


@dataclass(frozen=True)
class PersonSample:
    """A picture with caption, instance masks and subjects: what every layout on disk holds.

    With markers its caption is `captions.mark(caption, [s.end for s in subjects])`; the mask of a subject is
    `segments_HW == subject.segment`, in the picture's own size.
    """

    id: str
    """A file's name: without folders or suffix, at most 240 bytes."""
    caption: str
    """Plain caption, without markers."""
    image_HW3: np.ndarray
    """uint8 RGB, upright."""
    segments_HW: np.ndarray
    """Label map of any integer type, from 0 to 2**31 - 1; 0 is background."""
    subjects: tuple[ShownSubject, ...]
    """In the order of the caption; none where the layout has no masks."""
    truth: dict[str, Any] = field(default_factory=dict)
    """What a renderer knows: scene, style, attributes. Empty for photographs."""
