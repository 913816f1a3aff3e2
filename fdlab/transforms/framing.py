"""Which part of a picture is shown, and at what size: every subject stays in view, as far as that can be.

Axes: H W pixels, C channels, 3 RGB. Images are uint8; sizes are (height, width).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

Crop = Literal["people", "random"]
Size = tuple[int, int]
Window = tuple[slice, slice]
"""Rows and columns."""


@dataclass(frozen=True)
class Framing:
    """How a window is chosen: the largest, about the people; or drawn, with every subject in view."""

    crop: Crop = "people"
    least: float = 0.5
    """Smallest side of a drawn window, as a share of the largest's."""

    def drawn(self, rng: np.random.Generator | None) -> np.random.Generator | None:
        """What `framed` is to draw from; None where nothing is drawn."""
        return rng if self.crop == "random" else None


def window(
    segments_HW: np.ndarray,
    aspect: Size = (1, 1),
    subjects: Sequence[int] = (),
    rng: np.random.Generator | None = None,
    least: float = 1.0,
) -> Window:
    """The window of an aspect that holds the subjects (values of the label map; none: all that are not 0).

    Without `rng` it is the largest, as near to the middle of all people as holds the subjects. With it, side
    (`least` to 1 of the largest) and place are uniform among those that hold them. Where no window holds them
    all, it is one of those that show most of whoever they show least of.
    """
    people_HW = segments_HW != 0
    if not subjects:
        masks = [people_HW]
    else:
        masks = [segments_HW == number for number in subjects]
    shape = segments_HW.shape
    scale = min(shape[0] / aspect[0], shape[1] / aspect[1])
    sides = [min(shape[axis], max(1, round(aspect[axis] * scale))) for axis in (0, 1)]
    spans = [_span(masks, axis) for axis in (0, 1)]
    if rng is not None:
        # The smallest that holds everybody; more than 1 where none does.
        needed = max((end - start) / side for (start, end), side in zip(spans, sides, strict=True))
        low = min(1.0, max(least, needed))
        share = low + (1 - low) * rng.random()
        held = [end - start if needed <= 1 else 1 for start, end in spans]
        sides = [max(floor, min(side, round(side * share))) for side, floor in zip(sides, held, strict=True)]
    starts = []
    for axis in (0, 1):
        places = _places(segments_HW, masks, bool(subjects), axis, sides[axis], spans[axis])
        if rng is not None:
            starts.append(int(places[rng.integers(len(places))]))
            continue
        first, last = _span([people_HW], axis) if people_HW.any() else (0, shape[axis])
        wanted = np.clip(round((first + last) / 2 - sides[axis] / 2), 0, shape[axis] - sides[axis])
        starts.append(int(places[np.abs(places - wanted).argmin()]))
    rows, columns = (slice(start, start + side) for start, side in zip(starts, sides, strict=True))
    return rows, columns


def framed(
    image_HW3: np.ndarray,
    segments_HW: np.ndarray,
    size: Size,
    subjects: Sequence[int] = (),
    rng: np.random.Generator | None = None,
    least: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Cut picture and label map to the `window` of `size`'s aspect and resize both to `size`."""
    shown = window(segments_HW, size, subjects, rng, least)
    return resize(image_HW3[shown], size), resize_labels(segments_HW[shown], size)


def resize(image_HWC: np.ndarray, size: int | Size) -> np.ndarray:
    """Resize an image (1, 3 or 4 channels, or none) to `size`, antialiased (Pillow's bicubic)."""
    height, width = (size, size) if isinstance(size, int) else size
    if image_HWC.shape[:2] == (height, width):
        return image_HWC
    return np.asarray(Image.fromarray(image_HWC).resize((width, height), Image.Resampling.BICUBIC))


def resize_labels(segments_HW: np.ndarray, size: int | Size) -> np.ndarray:
    """Resize a label map by taking the nearest label."""
    sizes = (size, size) if isinstance(size, int) else size
    rows, columns = (
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(int), old - 1)
        for new, old in zip(sizes, segments_HW.shape, strict=True)
    )
    return segments_HW[np.ix_(rows, columns)]


def _span(masks: Sequence[np.ndarray], axis: int) -> tuple[int, int]:
    """From where to where some masks reach along an axis; (0, 0) where all are empty."""
    found = np.flatnonzero(np.any([mask.any(1 - axis) for mask in masks], axis=0))
    return (int(found[0]), int(found[-1]) + 1) if len(found) else (0, 0)


def _places(
    segments_HW: np.ndarray,
    masks: Sequence[np.ndarray],
    is_chosen: bool,
    axis: int,
    side: int,
    span: tuple[int, int],
) -> np.ndarray:
    """Where a window may begin along an axis."""
    room = segments_HW.shape[axis] - side
    start, end = span
    if start == end:
        return np.arange(room + 1)
    if end - start <= side:
        return np.arange(max(0, end - side), min(start, room) + 1)
    if not is_chosen:
        masks = [segments_HW == number for number in np.unique(segments_HW) if number]
    sums = [np.concatenate([[0], np.cumsum(mask.sum(1 - axis))]) for mask in masks if mask.any()]
    share = np.min([(total[side:] - total[: room + 1]) / total[-1] for total in sums], axis=0)
    return np.flatnonzero(share >= share.max() - 1e-9)
