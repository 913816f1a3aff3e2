"""Pictures on disk: every one is read here. B batch, H W pixels, 3 RGB.

Whatever a file holds comes out upright and RGB: turned as its EXIF says; grey of 16 or 32 bits and floats
scaled to 8 bits; what is transparent shows white, so that colours nobody ever saw do not appear. A file that
is no picture, is broken, or has more pixels than memory should hold is a UserError of one line.
"""

from __future__ import annotations

import io
import logging
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from fdlab.errors import UserError
from fdlab.files import is_file, is_folder, shortened, whole
from fdlab.foreign import said

MAX_PIXELS = 64_000_000
"""Checked before anything is decoded: more than the largest common camera takes, 192 MB as RGB."""
FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "SGI", "SUN", "TGA",
    "TIFF", "WEBP",
)  # fmt: skip
"""Pillow's names of what is read: pictures alone. Others of its formats run programs (EPS), or hold pictures
whose size their header does not say (ICO, ICNS)."""
ORIENTATION = 0x0112
"""EXIF's tag."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BROKEN_EXIF = (
    ValueError, LookupError, TypeError, ArithmeticError, SyntaxError, OSError, EOFError, AttributeError,
    struct.error, zlib.error, Warning,
)  # fmt: skip
"""What Pillow stumbles over in it; a warning, where these are errors."""
# What Pillow warns of and logs over a damaged or large file would only stand beside the error.
logging.getLogger("PIL").addHandler(logging.NullHandler())
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def write_png(path: Path, image_HW3: np.ndarray, text: Mapping[str, str] | None = None) -> None:
    """Write a uint8 RGB picture as PNG with text chunks, whole or not at all."""
    info = PngInfo()
    for key, value in (text or {}).items():
        info.add_itxt(key, value)
    with whole(path, flush=False) as temporary:
        Image.fromarray(image_HW3).save(temporary, format="PNG", pnginfo=info)


def read_image(path: Path, size: int | None = None) -> np.ndarray:
    """Read a picture that must be RGB already as uint8 (H, W, 3), upright. UserError if it is missing or
    broken, not square at `size`, or not RGB (grey, alpha)."""
    with opened(path, "image") as found:
        if found.mode != "RGB" or found.has_transparency_data:
            mode = "RGB with a transparent colour" if found.mode == "RGB" else found.mode
            raise UserError(f"image '{path}' has mode {mode}; allowed: RGB (no grey, no alpha).")
        image = np.asarray(upright(found))
    if size is not None and image.shape[:2] != (size, size):
        raise UserError(
            f"image '{path}' is {image.shape[1]} x {image.shape[0]}; the benchmark asks for {size} x {size}."
        )
    return image


def read_images(paths: Sequence[Path], size: int | None = None) -> np.ndarray:
    """Read pictures of one size into images_BHW3 uint8, each as `read_image`."""
    images = [read_image(path, size) for path in paths]
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise UserError(f"images of several sizes in '{paths[0].parent}': {sorted(shapes)}; they must agree.")
    return np.stack(images)


def read_photo(path: Path | str, kind: str = "photo") -> np.ndarray:
    """Read any picture as uint8 RGB (H, W, 3), upright, on white where it is transparent; `kind` is what
    messages call it. Raises: UserError."""
    return on_white(open_photo(path, kind))


def photo_of(data: bytes, name: str) -> np.ndarray:
    """The same of a picture's bytes; `name` is what messages call it. Raises: UserError."""
    with opened_bytes(data, name) as image:
        return on_white(image, name)


def open_photo(path: Path | str, kind: str = "photo") -> Image.Image:
    """Read any picture upright: mode RGB, or RGBA where something of it can be seen through. Raises:
    UserError."""
    with opened(path, kind) as image:
        return plain(image, f"{kind} '{path}'")


def size_of(data: bytes, name: str) -> tuple[int, int]:
    """Height and width of a picture as it is shown, by the head of its file. Raises: UserError."""
    with _one_line(name), Image.open(io.BytesIO(data)) as image:
        width, height = image.size
        return (width, height) if _orientation(image) in (5, 6, 7, 8) else (height, width)


def is_readable(path: Path) -> bool:
    """Whether a picture is there and whole."""
    try:
        with opened(path, "picture"):
            return True
    except UserError:
        return False


@contextmanager
def opened(path: Path | str, kind: str) -> Iterator[Image.Image]:
    """A picture decoded, but neither turned nor converted. UserError that names it where that fails."""
    path = Path(path)
    name = f"{kind} {shortened(path)}"
    with _one_line(name):
        path = path.expanduser()
        if not is_file(path):
            raise UserError(f"{name} {'is missing' if not is_folder(path) else 'is a folder'}.")
        image = Image.open(path)
    with image:
        _load(image, name)
        yield image


@contextmanager
def opened_bytes(data: bytes, name: str) -> Iterator[Image.Image]:
    """The same of a picture's bytes."""
    with _one_line(name):
        image = Image.open(io.BytesIO(data))
    with image:
        _load(image, name)
        yield image


def _load(image: Image.Image, name: str) -> None:
    with _one_line(name):
        _check_size(image, name)
        if image.format not in FORMATS:
            raise UserError(f"{name} is {image.format}; allowed: {', '.join(FORMATS)}.")
        image.load()


def plain(image: Image.Image, name: str = "the picture") -> Image.Image:
    """A picture upright, in mode RGB or (where it has transparency) RGBA, 8 bits a channel, and without
    metadata: it is not turned again. UserError where its mode has no such form, or its numbers are no
    brightness."""
    _check_size(image, name)
    with _one_line(name):
        turned = upright(image)
        if turned.mode[0] in "IF":
            turned = _eight_bits(turned, name)
        if turned.mode in ("La", "RGBa"):
            turned = turned.convert(turned.mode.upper())
        made = turned.convert("RGBA" if turned.has_transparency_data else "RGB")
    made.info.clear()
    return made


def on_white(image: Image.Image, name: str = "the picture") -> np.ndarray:
    """uint8 HW3 of a picture, as `plain` has it, on white."""
    made = plain(image, name)
    if made.mode == "RGBA":
        made = Image.alpha_composite(Image.new("RGBA", made.size, "white"), made).convert("RGB")
    return np.array(made)


def upright(image: Image.Image) -> Image.Image:
    """A picture turned as its EXIF says; the same where it says nothing, or nothing that can be read."""
    turn = _TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def is_upright(image: Image.Image) -> bool:
    """Whether a picture lies in its file as it is shown."""
    return _orientation(image) not in _TURNS


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ORIENTATION)
    except _BROKEN_EXIF:
        # Viewers show a picture with a broken EXIF block as it lies.
        return 1
    return value if isinstance(value, int) else 1


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    """Grey of 16 bits (I;16...), of 32 (I) or of floats (F) as L, or LA where one value is transparent.

    16 bits go from 0 to 65535. The others do not say what is white: the first of 1 (floats alone), 255 and
    65535 that no pixel exceeds.
    """
    values_HW = np.asarray(image)
    low, high = values_HW.min(), values_HW.max()
    whites = {"I": (255, 65535), "F": (1, 255, 65535)}.get(image.mode, (65535,))
    white = next((white for white in whites if high <= white), None)
    if white is None or not low >= 0:
        raise UserError(f"{name} has values from {low:g} to {high:g}; allowed: 0 to 1, to 255 or to 65535.")
    grey = Image.fromarray(np.rint(values_HW / white * 255.0).astype(np.uint8))
    hidden = image.info.get("transparency")
    if isinstance(hidden, int):
        grey.putalpha(Image.fromarray((values_HW != hidden).astype(np.uint8) * 255))
    return grey


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UserError(_too_large(f"{name} is {width} x {height}"))


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Whatever Pillow raises becomes a UserError that begins with `name`."""
    try:
        yield
    except UserError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(_too_large(f"{name} is too large")) from error
    except UnidentifiedImageError as error:
        raise UserError(f"{name} cannot be read: no picture of a known format.") from error
    except Exception as error:
        # Decoders raise nearly anything over a broken file: struct.error, SyntaxError, OverflowError ...
        raise UserError(f"{name} cannot be read: {said(error)}.") from error


def _too_large(what: str) -> str:
    return f"{what}; at most {MAX_PIXELS / 1e6:.0f} million pixels are read: scale it down."
