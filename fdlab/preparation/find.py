"""Stage one: every photo below a folder, made the picture that all else looks at. H W pixels, 3 RGB.

What is written is upright, sRGB, of at most so many pixels, and has no metadata: no EXIF, no place, no owner.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fdlab.errors import UserError
from fdlab.files import sha256, whole
from fdlab.layouts.suffixes import PICTURES
from fdlab.preparation.colours import read_srgb
from fdlab.preparation.likeness import look_of
from fdlab.preparation.settings import PictureSettings
from fdlab.preparation.work import Stage, packed

SUFFIXES = frozenset((*PICTURES, ".jp2", ".jpe", ".jfif", ".mpo", ".heic", ".heif", ".tga", ".pcx", ".dib"))
QUALITY = 95
VERSION = 1


@dataclass(frozen=True)
class Source:
    """A file below the folder of photos."""

    name: str
    """Its path from there, with `/`."""
    key: str
    """Says which file it was: hash of name, size and time of change."""


@dataclass(frozen=True)
class Sources:
    """What is below a folder."""

    photos: list[Source]
    """By name."""
    others: int
    """Files that are no pictures."""
    linked: int
    """Links to folders, which are not entered: they may lead round in circles."""


def sources(root: Path) -> Sources:
    """All pictures below a folder, hidden ones aside. Raises: UserError where there is no picture, or a
    folder cannot be read."""
    if not root.is_dir():
        raise UserError(f"no folder '{root}'; give the folder that your photos are in.")
    found, others, linked = [], 0, 0
    for path in _entries(root):
        if path.is_dir():
            linked += 1
            continue
        if path.suffix.lower() not in SUFFIXES:
            others += 1
            continue
        name, stat = path.relative_to(root).as_posix(), _stat(path)
        facts = f"{name} {stat.st_size} {stat.st_mtime_ns}"
        if not os.access(path, os.R_OK):
            # Once it may be read, it is another file to us: its time of change says nothing of that.
            facts += " locked"
        # A name need not be text; its bytes then are what they are.
        found.append(Source(name, hashlib.blake2b(os.fsencode(facts), digest_size=12).hexdigest()))
    if not found:
        raise UserError(f"no picture below '{root}'; looked for {', '.join(sorted(SUFFIXES))}.")
    return Sources(found, others, linked)


def _entries(root: Path) -> Iterator[Path]:
    """All files but hidden ones, also what is called like a picture and is no file (reading it says why);
    and links to folders."""
    for folder, folders, files in os.walk(root, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder) / name for name in sorted(files) if not name.startswith("."))
        yield from (path for name in folders if (path := Path(folder) / name).is_symlink())


def _refuse(error: OSError) -> None:
    raise UserError(
        f"folder '{error.filename}' cannot be read ({error.strerror}); make it readable, or take it out."
    ) from error


def _stat(path: Path) -> os.stat_result:
    """Of the photo, or of the link where that leads nowhere."""
    try:
        return path.stat()
    except OSError:
        return path.lstat()


def stage_of(root: Path, work: Path, settings: PictureSettings) -> Stage:
    """The stage, whose notes are by `Source.key`, and its pictures by the key of their content."""
    facts = {"version": VERSION, "root": str(root.resolve()), "longest_side": settings.longest_side}
    return Stage.of(work, "pictures", facts, Finder, str(root), packed(asdict(settings)))


class Finder:
    """Reads photos and writes pictures."""

    def __init__(self, root: str, settings: str) -> None:
        self.root = Path(root)
        self.settings = PictureSettings(**json.loads(settings))
        self.names: dict[str, str] = {}

    def __call__(self, stage: Stage, key: str) -> dict[str, Any]:
        """A photo's note: the key of its content, sizes and look; or why it cannot be used."""
        if key not in self.names:
            self.names = {source.key: source.name for source in sources(self.root).photos}
        if key not in self.names:
            # The next call sees it as it is then.
            return {"unreadable": "it was changed or taken away while photos were looked for"}
        path = self.root / self.names[key]
        try:
            image_HW3 = read_srgb(path)
        except UserError as error:
            return {"unreadable": str(error)}
        picture = _fitted(Image.fromarray(image_HW3), self.settings.longest_side)
        content = sha256(path)[:16]
        if not (target := stage.path(content, ".jpg")).is_file():
            with whole(target, flush=False) as temporary:
                picture.save(temporary, "JPEG", quality=QUALITY, subsampling=0)
        return {
            "key": content,
            "photo": [image_HW3.shape[1], image_HW3.shape[0]],
            "picture": list(picture.size),
            "look": look_of(np.asarray(picture)),
        }


def _fitted(image: Image.Image, longest: int) -> Image.Image:
    share = longest / max(image.size)
    if share >= 1:
        return image
    width, height = (max(1, round(side * share)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)
