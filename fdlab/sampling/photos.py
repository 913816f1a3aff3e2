"""From a photo to a subject: the face is found, and the square around it cut out. H W pixels, 3 RGB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from fdlab.data.pictures import on_white, read_photo
from fdlab.errors import UserError
from fdlab.measure.faces import FaceDetector, by_size

MARGIN = 1.1
"""How much more than the face the square around it shows, in sides of the face: hair and shoulders."""


def cut_face(
    photo: Path | str | Image.Image, index: int | None = None, detector: FaceDetector | None = None
) -> Image.Image:
    """Cut the square around a face out of a photo, with hair and shoulders, as far as the photo reaches.

    The largest face, or the one of `index`, counted from the left from 0. Raises: UserError for a photo that
    is missing, no picture, or without such a face.
    """
    named = "the photo" if isinstance(photo, Image.Image) else f"photo '{photo}'"
    image_HW3 = on_white(photo) if isinstance(photo, Image.Image) else read_photo(photo)
    found = (detector or FaceDetector())([image_HW3])[0]
    if not found:
        raise UserError(f"no face found in {named}; give one in which a face can be seen well.")
    faces = sorted(found, key=lambda face: face.box[0] + face.box[2])
    if index is None:
        face = by_size(faces)[0]
    elif 0 <= index < len(faces):
        face = faces[index]
    else:
        raise UserError(
            f"face {index} of {named} was asked for, but {len(faces)} "
            f"{'was' if len(faces) == 1 else 'were'} found; allowed: 0 to {len(faces) - 1}, from the left."
        )
    return Image.fromarray(around(image_HW3, face.box))


def around(image_HW3: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """The square around a face's box (x1, y1, x2, y2), as far as the picture reaches."""
    x1, y1, x2, y2 = box
    half = max(x2 - x1, y2 - y1) * (0.5 + MARGIN / 2)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    height, width = image_HW3.shape[:2]
    top, bottom = round(max(0, y - half)), round(min(height, y + half))
    left, right = round(max(0, x - half)), round(min(width, x + half))
    return image_HW3[top:bottom, left:right].copy()
