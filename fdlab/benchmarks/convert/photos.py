"""A user's photos: found, looked at, and copied as evaluation reads them, upright and RGB."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from fdlab.data.pictures import opened, read_photo, upright, write_png
from fdlab.files import whole

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".avif", ".jp2")
COPIED = {"JPEG": (".jpg", ".jpeg"), "MPO": (".jpg", ".jpeg"), "PNG": (".png",), "WEBP": (".webp",)}
"""What is copied, if its name says what it is."""
HIDDEN = "a name that begins with a dot"


@dataclass(frozen=True)
class Photo:
    """A photo that can be read."""

    path: Path
    as_it_is: bool
    """Upright, RGB and named for what it is: its bytes are copied. Else it is written anew as PNG."""

    @property
    def suffix(self) -> str:
        """Of its copy."""
        return self.path.suffix.lower() if self.as_it_is else ".png"

    def copy(self, target: Path) -> None:
        """Write it to `target`, whole or not at all."""
        if not self.as_it_is:
            write_png(target, read_photo(self.path))
            return
        with whole(target) as temporary:
            shutil.copyfile(self.path, temporary)


def photos_in(folder: Path) -> list[Path]:
    """A folder's own pictures, sorted by name."""
    return [path for path in _seen(folder) if not _why_not(path)]


def skipped_in(folder: Path) -> dict[Path, str]:
    """What else is in a folder, but for folders that are seen, and why it is no photo."""
    hidden = {path: HIDDEN for path in sorted(folder.iterdir()) if path.name.startswith(".")}
    return hidden | {path: why for path in _seen(folder) if (why := _why_not(path)) and not path.is_dir()}


def _seen(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _why_not(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return "a link to nothing"
    if not path.is_file():
        return "no file"
    if path.suffix.lower() not in SUFFIXES:
        return f"{path.suffix.lower()} is not read" if path.suffix else "a name without a suffix"
    return ""


def look(path: Path) -> Photo:
    """Decode a photo once. Raises: UserError."""
    with opened(path, "photo") as image:
        named = path.suffix.lower() in COPIED.get(image.format or "", ())
        rgb = image.mode == "RGB" and not image.has_transparency_data
        return Photo(path, named and rgb and upright(image) is image)
