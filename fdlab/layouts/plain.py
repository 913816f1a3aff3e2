"""A plain folder: pictures with captions, and no masks. Enough for a TDM; an SDM learns nothing from it.

    root/**/NAME.jpg                  any picture; NAME is its id (of one in a folder below: FOLDER%2FNAME)
    root/**/NAME.txt or .caption      its caption, as kohya's scripts take it
    root/**/metadata.jsonl            or {"file_name": path from here, "text": caption} a line, as diffusers'

With a folder `test` at the top, pictures below it are of the split test; `train` at the top goes without
saying.

Axes: H W pixels.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fdlab import foreign
from fdlab.data.annotation import Annotation
from fdlab.data.layout import SPLITS, is_id, joined, unreadable, without_faults
from fdlab.data.pictures import read_photo
from fdlab.data.pieces import glance
from fdlab.data.sample import CorruptFile, PersonSample
from fdlab.errors import UserError, unknown
from fdlab.files import write_bytes, write_text
from fdlab.layouts.captions import caption_of, only_caption
from fdlab.layouts.suffixes import PICTURES

METADATA = "metadata.jsonl"
KEYS = ("text", "caption", "prompt")
"""Of a line's caption; the first that is there."""
CAPTIONS = (".txt", ".caption")
OTHER_TEXTS = ("readme", "license", "licence", "copying")
"""How files begin that are no captions."""


class PlainFolder:
    """A folder of pictures and captions; as `fdlab.data.folder.Folder`."""

    kind = "plain"
    has_masks = False

    def __init__(self, root: Path | str, caption: str | None = None) -> None:
        """`caption`: of pictures that have none; None: those are faults."""
        self.root, self.caption = Path(root), caption
        if not self.root.is_dir():
            raise UserError(f"data folder '{root}' does not exist; give a folder of pictures and captions.")
        self.faults: dict[str, str] = {}
        self._path: dict[str, Path] = {}
        self._captions: dict[Path, str] = {}
        for path in pictures_below(self.root):
            id = _id(path.relative_to(self.root))
            if not is_id(id):
                self.faults[id] = f"picture '{path}' has a name that cannot be an id."
            elif (first := self._path.setdefault(id, path)) is not path:
                self.faults[str(path.relative_to(self.root))] = (
                    f"pictures '{first}' and '{path}' have one name; the second is not read."
                )
        for path in sorted(self.root.rglob(METADATA)):
            self._read_metadata(path)

    def listed(self, split: str = "all") -> tuple[list[str], dict[str, str]]:
        """As `Folder.listed`."""
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
        ids = [id for id, path in self._path.items() if split in ("all", self._split(path))]
        if not ids:
            raise UserError(
                f"data folder '{self.root}' holds no picture of split '{split}' (those below its folder "
                "'test' are held out, all others train)."
            )
        return ids, self.faults

    def ids(self, split: str = "all") -> list[str]:
        """As `Folder.ids`."""
        return without_faults(*self.listed(split))

    def strays(self) -> dict[str, str]:
        """As `Folder.strays`: captions whose picture is gone."""
        stems = {path.with_suffix("") for path in self._path.values()}
        found = {}
        for suffix in CAPTIONS:
            captions = sorted(path for path in self.root.rglob(f"*{suffix}") if not path.name.startswith("."))
            # Beside pictures that have none of that kind it is some other text.
            used = {path.parent for path in captions if path.with_suffix("") in stems}
            for path in captions:
                lost = path.parent in used and path.with_suffix("") not in stems
                if lost and not path.stem.lower().startswith(OTHER_TEXTS):
                    found[str(path.relative_to(self.root))] = f"caption '{path}' has no picture beside it."
        return found

    def unlisted(self) -> list[str]:
        """As `Folder.unlisted`: there are no lists."""
        return []

    def annotation(self, id: str, labels: Collection[str] | None = None) -> Annotation:
        """As `Folder.annotation`; it has no subjects, whatever the labels."""
        path = self._of(id)
        if path in self._captions:
            return only_caption(id, self._captions[path], str(path))
        for suffix in CAPTIONS:
            beside = path.with_suffix(suffix)
            if beside.is_file():
                return only_caption(id, caption_of(beside.read_bytes(), str(beside)), str(beside))
        if self.caption is not None:
            return only_caption(id, self.caption, self.caption)
        raise CorruptFile(
            f"picture '{path}' has no caption: no {' or '.join(CAPTIONS)} beside it, no line in {METADATA}."
        )

    def sample(self, id: str, annotation: Annotation | None = None) -> PersonSample:
        """As `Folder.sample`."""
        annotation, path = annotation or self.annotation(id), self._of(id)
        try:
            image_HW3 = read_photo(path, "picture")
        except UserError as error:
            raise unreadable(error) from error
        return joined(annotation, image_HW3, np.zeros(image_HW3.shape[:2], np.uint8), str(path))

    def picture(self, id: str, pieces: bool = False) -> bytes:
        """As `Folder.picture`; `pieces` as of `files`."""
        try:
            return glance(self._of(id)) if pieces else self._of(id).read_bytes()
        except OSError as error:
            raise CorruptFile(f"picture '{self._of(id)}' cannot be read: {error.strerror}.") from error

    def files(self, id: str, pieces: bool = False) -> Iterator[tuple[str, bytes]]:
        """As `Folder.files`; of a caption's file, what it says of this picture."""
        yield "picture", self.picture(id, pieces)
        yield "caption", self.annotation(id).caption.encode()

    def pictures(self, id: str) -> list[str]:
        """As `Folder.pictures`; a second one of a name is a fault of the folder."""
        return [self._of(id).suffix]

    def facts(self, ids: Iterable[str]) -> Iterable[str]:
        """As `Folder.facts`."""
        if self.caption is not None:
            yield f"caption {self.caption}"
        paths = [p for id in ids for p in (self._of(id), *(self._of(id).with_suffix(s) for s in CAPTIONS))]
        for path in (*paths, *sorted(self.root.rglob(METADATA))):
            if path.is_file():
                stat = path.stat()
                yield f"{path.relative_to(self.root)} {stat.st_size} {stat.st_mtime_ns}"

    def _of(self, id: str) -> Path:
        if id not in self._path:
            raise CorruptFile(f"data folder '{self.root}' has no picture '{id}'.")
        return self._path[id]

    def _split(self, path: Path) -> str:
        inside = path.relative_to(self.root).parts
        return "test" if len(inside) > 1 and inside[0] == "test" else "train"

    def _read_metadata(self, path: Path) -> None:
        """Take the captions of a JSONL; what of it is wrong is a fault each line."""
        known = set(self._path.values())
        for number, line in enumerate(foreign.text(path, "list of captions").splitlines(), 1):
            if not line.strip():
                continue
            place = f"'{path}', line {number}"
            try:
                value = foreign.parse_json(line, place)
                file, caption = named_caption(value, place)
            except UserError as error:
                self.faults[f"{path.name}:{number}"] = str(error)
                continue
            picture = path.parent / file
            if picture not in known:
                self.faults[f"{path.name}:{number}"] = f"{place}: there is no picture '{picture}'."
            elif picture in self._captions:
                self.faults[f"{path.name}:{number}"] = f"{place}: '{file}' has a caption already."
            else:
                self._captions[picture] = caption


def place_of(id: str, suffix: str, split: str = "") -> Path:
    """Where a picture of the split goes, below the root."""
    # A file whose name begins with a dot is hidden.
    name = f"%2E{id[1:]}" if id.startswith(".") else id
    return Path(split) / f"{name}{suffix}"


def write_sample(root: Path, sample: PersonSample, picture: tuple[bytes, str], split: str = "") -> None:
    """Write a picture's file (content, suffix) and, last, its caption; subjects are left out. Nothing is
    flushed to the disk."""
    path = root / place_of(sample.id, picture[1], split)
    write_bytes(path, picture[0], flush=False)
    write_text(root / place_of(sample.id, ".txt", split), sample.caption + "\n", flush=False)


def line_of(file: str, caption: str) -> str:
    """A line of metadata.jsonl."""
    return json.dumps({"file_name": file, "text": caption}) + "\n"


def pictures_below(root: Path) -> Iterator[Path]:
    """Every picture below a folder, hidden ones aside, by name within each folder."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in PICTURES:
                yield Path(folder) / name


def _id(inside: Path) -> str:
    parts = inside.with_suffix("").parts
    if len(parts) > 1 and parts[0] in ("train", "test"):
        parts = parts[1:]
    return "%2F".join(parts)


def named_caption(value: Any, place: str) -> tuple[str, str]:
    """File and caption that a line of metadata.jsonl holds; `place` says which line. Raises: UserError."""
    if not isinstance(value, dict) or not isinstance(value.get("file_name"), str):
        raise UserError(f"{place}: an object with 'file_name' is needed.")
    caption = next((value[key] for key in KEYS if value.get(key) is not None), None)
    if not isinstance(caption, str):
        raise UserError(f"{place}: it has no caption ({' or '.join(KEYS)}).")
    return value["file_name"], caption
