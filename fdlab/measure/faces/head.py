"""References cropped to the head: a square placed by a face's landmarks, so that all heads lie alike.

Axes: H W pixels, S side of a crop, 3 RGB, 4 RGB and alpha.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from PIL import Image

from fdlab.errors import UserError
from fdlab.measure.faces.detector import FaceDetector
from fdlab.measure.faces.face import Face, largest
from fdlab.measure.faces.remembered import RememberingDetector, usual_detector

SIDE, DOWN = 3.3, 0.25
"""In distances from the eyes to the mouth: the square's side, and its middle below the eyes."""


def head_window(landmarks_52: np.ndarray) -> tuple[float, float, float]:
    """Middle (x, y) and side of the square, in pixels."""
    points_52 = np.asarray(landmarks_52, np.float64)
    eyes, mouth = points_52[:2].mean(0), points_52[3:].mean(0)
    x, y = eyes + DOWN * (mouth - eyes)
    return float(x), float(y), SIDE * float(np.linalg.norm(mouth - eyes))


def cut_head(
    image_HW3: np.ndarray, mask_HW: np.ndarray | None, landmarks_52: np.ndarray, size: int
) -> np.ndarray:
    """Cut a head out (uint8 SS4): alpha 0 beyond the mask and beyond the picture.

    `mask_HW` None is a photo without one: all of the picture shows.
    """
    x, y, side = head_window(landmarks_52)
    left, top = math.floor(x - side / 2) - 1, math.floor(y - side / 2) - 1
    whole = math.ceil(side) + 4
    height, width = image_HW3.shape[:2]
    rows = slice(max(0, top), max(0, min(height, top + whole)))
    columns = slice(max(0, left), max(0, min(width, left + whole)))
    inside = (
        slice(rows.start - top, rows.stop - top),
        slice(columns.start - left, columns.stop - left),
    )
    canvas_HW4 = np.zeros((whole, whole, 4), np.uint8)
    shown_HW = np.True_ if mask_HW is None else np.asarray(mask_HW)[rows, columns] > 0
    canvas_HW4[*inside, :3] = image_HW3[rows, columns] * np.atleast_3d(shown_HW)
    canvas_HW4[*inside, 3] = shown_HW * np.uint8(255)
    box = (x - side / 2 - left, y - side / 2 - top, x + side / 2 - left, y + side / 2 - top)
    # Pillow premultiplies RGBA by alpha while it resizes, and filters where it makes smaller.
    return np.asarray(Image.fromarray(canvas_HW4).resize((size, size), Image.Resampling.BILINEAR, box))


class HeadCrop:
    """Finds the largest face of a person and cuts the head out."""

    name = "head-1"
    """Part of a cache's key: another way to cut needs another name."""

    def __init__(self, detector: FaceDetector | RememberingDetector | None = None) -> None:
        self._given = detector

    @cached_property
    def detector(self) -> FaceDetector | RememberingDetector:
        return self._given or usual_detector()

    def __call__(self, image_HW3: np.ndarray, mask_HW: np.ndarray | None, size: int) -> np.ndarray:
        """The head of whoever the mask shows (uint8 SS4). Raises: UserError where no face is found there."""
        # A copy: torch warns of what cannot be written to.
        found = self.detector(np.array(image_HW3)[None])[0]
        face = largest(found if mask_HW is None else within(found, mask_HW))
        if face is None:
            raise UserError("no face is found, and backbone.reference_crop=head needs one.")
        return cut_head(image_HW3, mask_HW, face.landmarks_52, size)


def within(faces: Sequence[Face], mask_HW: np.ndarray) -> list[Face]:
    """Faces whose middle lies on the person."""
    height, width = mask_HW.shape
    kept = []
    for face in faces:
        x, y = face.landmarks_52.mean(0)
        if mask_HW[min(max(int(y), 0), height - 1), min(max(int(x), 0), width - 1)]:
            kept.append(face)
    return kept
