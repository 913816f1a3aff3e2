"""From one matte of everybody in a picture to one mask a person.

A person is a face and what hangs together with it. Where several hang together, each pixel goes to whose body
it is likelier to be, by a silhouette of head and shoulders drawn from the face's box.
Axes: H W pixels, F faces, P parts (connected regions of the matte), 4 = x1 y1 x2 y2 in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from fdlab.errors import UserError

HALF = 0.5
"""A pixel whose matte is above shows a person."""
HEAD, SHOULDERS, ABOVE = 0.75, 1.9, 1.15
"""The silhouette: half widths of head and of shoulders in widths of the face, and its reach above the face's
middle in heights of the face."""
CHIN, SLOPE = 0.55, 0.9
"""Below the face's middle, in its heights: where the head begins to widen, and how long it does."""
SHARE = 0.2
"""A part belongs to a face that has at least this share of its person's pixels on it."""
NEAR = 1.5
"""A part without a face is somebody's hair or hand within so many silhouettes, else nobody's."""
SHARP = 6.0
"""How fast one is surer whose a pixel is, the nearer it is to one silhouette than to the others."""


@dataclass(frozen=True)
class PersonMask:
    """One person in a picture."""

    mask_HW: np.ndarray
    """Bool."""
    box: tuple[int, int, int, int]
    """x1, y1, x2, y2 of the mask, the ends exclusive."""
    score: float
    """Expected overlap (intersection over union) with the person, 0 to 1, if the matte is a probability and
    `SHARP` right: low where the matte wavers, or where it is open whose the pixels are. It knows of no fault
    that the matte is sure of."""
    face: int
    """Row of the face in the boxes that were given."""


def tell_apart(matte_HW: np.ndarray, face_boxes_F4: np.ndarray) -> list[PersonMask]:
    """Give each face its person's mask; masks do not overlap.

    matte_HW: floats in 0..1; face_boxes_F4: may reach past the border. In the order of the faces; a face that
    the matte does not show has no mask. Raises: UserError for arrays of another shape, or no numbers.
    """
    matte_HW, box_F4 = np.asarray(matte_HW), np.asarray(face_boxes_F4, np.float64).reshape(-1, 4)
    if matte_HW.ndim != 2 or not np.isfinite(matte_HW).all() or not np.isfinite(box_F4).all():
        raise UserError(
            f"a matte of shape {matte_HW.shape} was given; needed: finite numbers of shape (H, W), and boxes."
        )
    if not len(box_F4) or not matte_HW.size:
        return []
    person_HW = matte_HW > HALF
    part_HW, _ = ndimage.label(person_HW, np.ones((3, 3)))
    distance_FHW = np.stack([silhouette(matte_HW.shape, box_4) for box_4 in box_F4])
    owner_HW, nearest_HW = _owners(part_HW, box_F4, distance_FHW)
    share_FHW = _shares(distance_FHW)
    found = []
    for face in range(len(box_F4)):
        mask_HW = person_HW & (owner_HW == face) & np.isfinite(nearest_HW)
        if mask_HW.any():
            score = expected_iou(mask_HW, matte_HW * share_FHW[face])
            found.append(PersonMask(mask_HW, bounds(mask_HW), score, face))
    return found


def silhouette(shape: tuple[int, int], box_4: np.ndarray) -> np.ndarray:
    """How far each pixel is from the upright axis of a face's body, in half widths of the body there: below 1
    within head and shoulders. (H, W)."""
    x1, y1, x2, y2 = box_4
    width, height = max(x2 - x1, 1.0), max(y2 - y1, 1.0)
    x_1W = np.arange(shape[1])[None] + 0.5 - (x1 + x2) / 2
    y_H1 = (np.arange(shape[0])[:, None] + 0.5 - (y1 + y2) / 2) / height
    t_H1 = np.clip((y_H1 - CHIN) / SLOPE, 0, 1)
    half_H1 = width * (HEAD + (SHOULDERS - HEAD) * t_H1 * t_H1 * (3 - 2 * t_H1))
    distance_HW: np.ndarray = np.hypot(x_1W / half_H1, np.minimum(0, y_H1) / ABOVE)
    return distance_HW


def expected_iou(mask_HW: np.ndarray, chance_HW: np.ndarray) -> float:
    """Expected pixels that mask and person share, over those of either; `chance_HW` says how likely each
    pixel is the person's."""
    inside = float(chance_HW[mask_HW].sum(dtype=np.float64))
    outside = float(chance_HW[~mask_HW].sum(dtype=np.float64))
    return float(np.clip(inside / max(float(mask_HW.sum()) + outside, 1e-9), 0, 1))


def bounds(mask_HW: np.ndarray) -> tuple[int, int, int, int]:
    """The box of a mask that is not empty: x1, y1, x2, y2, the ends exclusive."""
    rows, columns = np.flatnonzero(mask_HW.any(1)), np.flatnonzero(mask_HW.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def within(box_4: np.ndarray, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of a box, as far as it lies in the picture."""
    x1, y1, x2, y2 = (round(float(value)) for value in box_4)
    return slice(max(y1, 0), min(max(y2, 0), shape[0])), slice(max(x1, 0), min(max(x2, 0), shape[1]))


def _owners(
    part_HW: np.ndarray, box_F4: np.ndarray, distance_FHW: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Whose each pixel is, and how far it is from that face's silhouette (infinite: nobody's)."""
    num = int(part_HW.max()) + 1
    owns_FP = np.zeros((len(box_F4), num), bool)
    for face, box_4 in enumerate(box_F4):
        counts_P = np.bincount(part_HW[within(box_4, part_HW.shape)].ravel(), minlength=num)
        counts_P[0] = 0  # background
        owns_FP[face] = counts_P > SHARE * counts_P.sum()
    orphan_P = ~owns_FP.any(0)
    allowed_FHW = (owns_FP | (orphan_P & owns_FP.any(1)[:, None]))[:, part_HW]
    far_FHW = np.where(allowed_FHW, distance_FHW, np.inf)
    nearest_HW = far_FHW.min(0)
    nearest_HW[orphan_P[part_HW] & (nearest_HW > NEAR)] = np.inf
    return far_FHW.argmin(0), nearest_HW


def _shares(distance_FHW: np.ndarray) -> np.ndarray:
    """How likely a person's pixel is each face's, from distances to all silhouettes; sums to 1 over faces."""
    weight_FHW = np.exp(-SHARP * (distance_FHW - distance_FHW.min(0)))
    shares_FHW: np.ndarray = weight_FHW / weight_FHW.sum(0)
    return shares_FHW
