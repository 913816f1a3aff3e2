"""A user's photos: found, looked at, and copied as evaluation reads them, upright and RGB."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fdlab.errors import UserError
from fdlab.files import whole

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
ORIENTATION = 0x0112
"""EXIF's tag."""


@dataclass(frozen=True)
class Photo:
    """A photo that can be read."""

    path: Path
    as_it_is: bool
    """Upright and RGB: its bytes are copied. Else it is written anew as PNG, which loses nothing."""

    @property
    def suffix(self) -> str:
        """Of its copy."""
        return self.path.suffix.lower() if self.as_it_is else ".png"

    def copy(self, target: Path) -> None:
        """Write it to `target`, whole or not at all."""
        from PIL import ImageOps

        with whole(target) as temporary:
            if self.as_it_is:
                shutil.copyfile(self.path, temporary)
            else:
                with _opened(self.path) as image:
                    ImageOps.exif_transpose(image).convert("RGB").save(temporary, format="PNG")


def photos_in(folder: Path) -> list[Path]:
    """A folder's own pictures, sorted by name."""
    found = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in found if not path.name.startswith("."))


def look(path: Path) -> Photo:
    """Decode a photo once. UserError where it is broken, or neither RGB nor grey: what lies behind alpha is
    not ours to choose."""
    with _opened(path) as image:
        if image.mode not in ("RGB", "L"):
            raise UserError(f"photo '{path}' has mode {image.mode}; allowed: RGB, or L (grey); no alpha.")
        return Photo(path, image.mode == "RGB" and image.getexif().get(ORIENTATION, 1) == 1)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    from PIL import Image, UnidentifiedImageError

    try:
        opened = Image.open(path)
        opened.load()
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"photo '{path}' cannot be read: {error}.") from error
    with opened:
        yield opened
