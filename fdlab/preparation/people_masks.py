"""From one matte of everybody in a picture to one mask a person.

A person is a face and what hangs together with it. Where several hang together, each pixel goes to whose body
it is likelier to be, by a silhouette of head and shoulders drawn from the face's box and, where the picture
is given, by the colours of what is surely each one's.
Axes: H W pixels, F faces, P parts (connected regions of the matte), 4 = x1 y1 x2 y2 in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
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
CLOSER = 1.0
"""A larger face is nearer to the camera and hides others: what its logarithm takes off the distance."""
BINS, ROUNDS, TRUST, SMOOTH = 8, 2, 2.0, 0.13
"""Colours: bins a channel, times that the histograms are made anew, weight against the silhouettes, and the
standard deviation over which neighbours agree, in widths of a face."""
DOUBT = 2.0
"""`SHARP` for scores: lower, for people hide each other in more ways than silhouettes know."""


@dataclass(frozen=True)
class PersonMask:
    """One person in a picture."""

    mask_HW: np.ndarray
    """Bool."""
    box: tuple[int, int, int, int]
    """x1, y1, x2, y2 of the mask, the ends exclusive."""
    score: float
    """Expected overlap (intersection over union) with the person, 0 to 1, if the matte is a probability and
    `DOUBT` right: low where the matte wavers, or where it is open whose the pixels are. It knows of no fault
    that the matte is sure of."""
    face: int
    """Row of the face in the boxes that were given."""


def face_oval(box: Sequence[float], shape: tuple[int, ...]) -> np.ndarray:
    """Pixels of the ellipse within a face's box (bool, of `shape` HW)."""
    x1, y1, x2, y2 = box
    y, x = np.ogrid[: shape[0], : shape[1]]
    across = (x + 0.5 - (x1 + x2) / 2) / max(1e-6, (x2 - x1) / 2)
    down = (y + 0.5 - (y1 + y2) / 2) / max(1e-6, (y2 - y1) / 2)
    inside_HW: np.ndarray = across**2 + down**2 <= 1
    return inside_HW


def tell_apart(
    matte_HW: np.ndarray, face_boxes_F4: np.ndarray, image_HW3: np.ndarray | None = None
) -> list[PersonMask]:
    """Give each face its person's mask; masks do not overlap.

    matte_HW: floats in 0..1; face_boxes_F4: may reach past the border; image_HW3: uint8 RGB.
    In the order of the faces; a face that the matte does not show has no mask. Raises: UserError for arrays
    of another shape, or no numbers.
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
    width_F = np.maximum(box_F4[:, 2] - box_F4[:, 0], 1.0)
    distance_FHW -= CLOSER * np.log(width_F / width_F.mean())[:, None, None]
    far_FHW = np.where(_allowed(part_HW, box_F4, distance_FHW), distance_FHW, np.inf)
    log_FHW = -SHARP * far_FHW
    somebody_HW = person_HW & np.isfinite(far_FHW).any(0)
    if image_HW3 is not None and len(box_F4) > 1:
        log_FHW = log_FHW + TRUST * _colours(image_HW3, log_FHW, somebody_HW, SMOOTH * width_F.mean())
    owner_HW, chance_FHW = log_FHW.argmax(0), shares(log_FHW * DOUBT / SHARP)
    found = []
    for face in range(len(box_F4)):
        mask_HW = somebody_HW & (owner_HW == face)
        if mask_HW.any():
            score = expected_iou(mask_HW, matte_HW * chance_FHW[face])
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


def shares(log_FHW: np.ndarray) -> np.ndarray:
    """Chances that sum to 1 over faces, from logarithms up to a constant a pixel; 0 where none has any."""
    top_HW = log_FHW.max(0)
    weight_FHW = np.exp(log_FHW - np.where(np.isfinite(top_HW), top_HW, 0))
    made_FHW: np.ndarray = weight_FHW / np.maximum(weight_FHW.sum(0), 1e-12)
    return made_FHW


def _allowed(part_HW: np.ndarray, box_F4: np.ndarray, distance_FHW: np.ndarray) -> np.ndarray:
    """Which pixels may be whose (F, H, W): a part is shared by the faces on it; one without is whoever's is
    near."""
    num = int(part_HW.max()) + 1
    owns_FP = np.zeros((len(box_F4), num), bool)
    for face, box_4 in enumerate(box_F4):
        counts_P = np.bincount(part_HW[within(box_4, part_HW.shape)].ravel(), minlength=num)
        counts_P[0] = 0  # background
        owns_FP[face] = counts_P > SHARE * counts_P.sum()
    shown_F11 = np.asarray(owns_FP.any(1))[:, None, None]
    orphan_HW = ~np.asarray(owns_FP.any(0))[part_HW]
    return owns_FP[:, part_HW] | (shown_F11 & orphan_HW & (distance_FHW <= NEAR))


def _colours(image_HW3: np.ndarray, log_FHW: np.ndarray, somebody_HW: np.ndarray, sigma: float) -> np.ndarray:
    """Logarithm of how usual each pixel's colour is of each face's person, neighbours averaged."""
    bin_HW3 = np.asarray(image_HW3).astype(np.int64) * BINS // 256
    code_HW = (bin_HW3[..., 0] * BINS + bin_HW3[..., 1]) * BINS + bin_HW3[..., 2]
    weight_HW = ndimage.gaussian_filter(somebody_HW.astype(np.float64), sigma) + 1e-6
    usual_FHW = np.zeros(log_FHW.shape)
    for _ in range(ROUNDS):
        chance_FHW = shares(log_FHW + TRUST * usual_FHW)
        for face, chance_HW in enumerate(chance_FHW):
            counts = np.bincount(code_HW[somebody_HW], chance_HW[somebody_HW], BINS**3)
            smooth = ndimage.gaussian_filter(counts.reshape(BINS, BINS, BINS), 0.7).ravel()
            log_HW = np.log(smooth / max(float(smooth.sum()), 1e-9) + 1e-5)[code_HW] * somebody_HW
            usual_FHW[face] = ndimage.gaussian_filter(log_HW, sigma) / weight_HW
    return usual_FHW
