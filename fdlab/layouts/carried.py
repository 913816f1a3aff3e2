"""A picture's file as it is carried over: the same pixels, and nothing but pixels.

JPEG and PNG keep their coded data and lose what cameras and programs wrote beside them (EXIF with its places
and owners, comments, thumbnails). What is not upright, not RGB or another format becomes a PNG.

Axes: H W pixels, 3 RGB.
"""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

from fdlab.data.pictures import is_upright, photo_of
from fdlab.errors import UserError

PNG_KEPT = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"gAMA", b"cHRM", b"sRGB", b"iCCP")
"""Chunks of pixels and of what their colours mean."""
JPEG_QUALITY = 95
_APP0, _APP2, _APP14, _COMMENT, _SCAN = 0xE0, 0xE2, 0xEE, 0xFE, 0xDA


def carried(data: bytes, image_HW3: np.ndarray, jpeg: bool = False) -> tuple[bytes, str]:
    """A file (content, suffix) of the picture `image_HW3`, which was read from `data`. `jpeg`: as JPEG, where
    it has to be coded anew with its slight loss."""
    bare = _bare(data)
    if bare is not None and (not jpeg or bare[1] == ".jpg") and _shows(bare[0], image_HW3):
        return bare
    stream, image = io.BytesIO(), Image.fromarray(image_HW3)
    if jpeg:
        image.save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        return stream.getvalue(), ".jpg"
    image.save(stream, "PNG", compress_level=3)
    return stream.getvalue(), ".png"


def _bare(data: bytes) -> tuple[bytes, str] | None:
    """The file without metadata; None where it has to be coded anew."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            kind, plain = image.format, image.mode == "RGB" and not image.has_transparency_data
            if not plain or not is_upright(image):
                return None
        if kind in ("JPEG", "MPO"):
            return _bare_jpeg(data), ".jpg"
        return (_bare_png(data), ".png") if kind == "PNG" else None
    except (ValueError, LookupError, struct.error, OSError):
        # Damaged beside its pixels, which were read already.
        return None


def _bare_jpeg(data: bytes) -> bytes:
    """Without comments and applications' segments, but the colours': JFIF's, Adobe's, the ICC profile."""
    kept, at = [data[:2]], 2
    while True:
        while data[at] == 0xFF and data[at + 1] == 0xFF:
            at += 1
        marker, (length,) = data[at + 1], struct.unpack_from(">H", data, at + 2)
        if data[at] != 0xFF or length < 2:
            raise ValueError("no JPEG segment")
        segment = data[at : at + 2 + length]
        application = 0xE0 <= marker <= 0xEF
        colours = marker in (_APP0, _APP14) or (marker == _APP2 and segment[4:].startswith(b"ICC_PROFILE"))
        if marker != _COMMENT and (not application or colours):
            kept.append(segment)
        at += 2 + length
        if marker == _SCAN:
            # To the end mark; another picture may follow it.
            return b"".join(kept) + data[at : data.index(b"\xff\xd9", at) + 2]


def _bare_png(data: bytes) -> bytes:
    kept, at = [data[:8]], 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, chunk = data[at + 4 : at + 8], data[at : at + 12 + length]
        if kind in PNG_KEPT:
            kept.append(chunk)
        at += 12 + length
        if kind == b"IEND":
            break
    return b"".join(kept)


def _shows(data: bytes, image_HW3: np.ndarray) -> bool:
    try:
        return np.array_equal(photo_of(data, "picture"), image_HW3)
    except UserError:
        return False
