"""From a photo to a subject: the face is found, and the square around it cut out. H W pixels, 3 RGB."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fdlab.data.pictures import on_white, open_photo, plain
from fdlab.errors import UserError
from fdlab.measure.faces.detector import FaceDetector
from fdlab.measure.faces.face import by_size
from fdlab.measure.faces.head import cut_head
from fdlab.randomness import numpy_rng
from fdlab.transforms.references import Background, laid

MARGIN = 1.1
"""How much more than the face the square around it shows, in sides of the face: hair and shoulders."""


@dataclass(frozen=True)
class Head:
    """A head as the image encoder takes it, so that nothing is cut from it or scaled any more."""

    size: int
    """Pixels a side."""
    background: Background = "noise"
    """What lies where the photo ends, or can be seen through."""

    @classmethod
    def of(cls, crop: str, size: int, background: Background) -> Head | None:
        """For `backbone.reference_crop`; None for the person."""
        return cls(size, background) if crop == "head" else None


def cut_face(
    photo: Path | str | Image.Image,
    index: int | None = None,
    detector: FaceDetector | None = None,
    head: Head | None = None,
) -> Image.Image:
    """Cut the square around a face out of a photo, with hair and shoulders, as far as the photo reaches.

    The largest face, or the one of `index`, counted from the left from 0. With `head` the head alone, as an
    SDM takes it that has learnt from heads. Raises: UserError for a photo that is missing, no picture, or
    without such a face.
    """
    named = "the photo" if isinstance(photo, Image.Image) else f"photo '{photo}'"
    image = plain(photo) if isinstance(photo, Image.Image) else open_photo(photo)
    image_HW3 = on_white(image)
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
    if head is None:
        return Image.fromarray(around(image_HW3, face.box))
    opaque_HW = np.asarray(image)[..., 3] > 127 if image.mode == "RGBA" else None
    rgba_SS4 = cut_head(image_HW3, opaque_HW, face.landmarks_52, head.size)
    made_SS3 = laid(rgba_SS4, head.background, numpy_rng(0, "reference background", 0))
    return Image.fromarray(np.rint(made_SS3 * 255).astype(np.uint8))


def around(image_HW3: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """The square around a face's box (x1, y1, x2, y2), as far as the picture reaches."""
    x1, y1, x2, y2 = box
    half = max(x2 - x1, y2 - y1) * (0.5 + MARGIN / 2)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    height, width = image_HW3.shape[:2]
    top, bottom = round(max(0, y - half)), round(min(height, y + half))
    left, right = round(max(0, x - half)), round(min(width, x + half))
    return image_HW3[top:bottom, left:right].copy()
