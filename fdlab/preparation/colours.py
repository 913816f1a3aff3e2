"""A photo as it is shown: upright, and its colours brought to sRGB. H W pixels, 3 RGB."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from fdlab.data.pictures import on_white, opened, upright

MODES = ("RGB", "RGBA", "CMYK", "L")
"""Of pictures whose profile is applied; in the others (palettes, 16 bits) it is passed over."""


def read_srgb(path: Path) -> np.ndarray:
    """uint8 HW3 of any picture that Pillow reads, without anything else of the file. Raises: UserError."""
    with opened(path, "photo") as image:
        profile = image.info.get("icc_profile")
        # Converted colours lie in a picture without EXIF, which is not turned again.
        shown = _srgb(upright(image), profile) if profile and image.mode in MODES else None
        return on_white(image if shown is None else shown, f"photo '{path}'")


def _srgb(image: Image.Image, profile: bytes) -> Image.Image | None:
    """The picture in sRGB; None where its profile is broken or is another mode's: viewers then take sRGB."""
    mode = "RGBA" if image.mode == "RGBA" else "RGB"
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        made = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (ImageCms.PyCMSError, OSError):
        return None
    if made is not None:
        made.info.clear()
        made.getexif().clear()
    return made
