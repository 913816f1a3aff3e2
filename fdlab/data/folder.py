"""A data set on disk, as training and tools see it: whichever its layout, samples by id.

`FastComposerFolder` is the layout that everything here is built on; the others are in `fdlab.layouts`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from fdlab.data import layout
from fdlab.data.annotation import Annotation
from fdlab.data.pieces import glance
from fdlab.data.sample import CorruptFile, PersonSample
from fdlab.errors import UserError


class Folder(Protocol):
    """What each layout gives. It pickles, and keeps no file open that a forked worker would share."""

    kind: str
    """The layout's name."""
    root: Path

    @property
    def has_masks(self) -> bool:
        """Whether samples can have subjects; without, they teach a TDM alone."""

    def ids(self, split: str = "all") -> list[str]:
        """Ids of a split, in order. Raises: UserError, for the first fault of `listed` too."""

    def listed(self, split: str = "all") -> tuple[list[str], dict[str, str]]:
        """Ids of a split that can be read, and what is wrong with the folder's lists: entry to reason.
        Raises: UserError where there is none."""

    def strays(self) -> dict[str, str]:
        """What is there and belongs to no sample, or is listed and should not be: entry to reason. Looks
        through the whole folder."""

    def unlisted(self) -> list[str]:
        """Ids of samples that are there, and that no list names; they are not read."""

    def annotation(self, id: str, labels: Collection[str] | None = None) -> Annotation:
        """Caption, subjects and truth of one sample; `labels` as of `annotation.parse`. Raises:
        CorruptFile."""

    def sample(self, id: str, annotation: Annotation | None = None) -> PersonSample:
        """One sample whole; every listed subject has at least one pixel. Raises: CorruptFile."""

    def picture(self, id: str) -> bytes:
        """The picture's file as it lies there. Raises: CorruptFile."""

    def files(self, id: str, pieces: bool = False) -> Iterator[tuple[str, bytes]]:
        """All files of a sample, the picture first: name and content, whatever it is; with `pieces`, of long
        ones what `fdlab.data.pieces` looks at. Raises: CorruptFile."""

    def pictures(self, id: str) -> list[str]:
        """Suffixes of all pictures of that id; the first is the one that is read."""

    def facts(self, ids: Iterable[str]) -> Iterable[str]:
        """A line for each file of these samples that tells it from a changed one; no content is read."""


class FastComposerFolder:
    """FastComposer's layout, see `fdlab.data.layout`."""

    kind = "fastcomposer"
    has_masks = True

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def ids(self, split: str = "all") -> list[str]:
        """As `Folder.ids`."""
        return layout.read_ids(self.root, split)

    def listed(self, split: str = "all") -> tuple[list[str], dict[str, str]]:
        """As `Folder.listed`."""
        return layout.list_ids(self.root, split)

    def strays(self) -> dict[str, str]:
        """As `Folder.strays`."""
        return layout.strays(self.root)

    def unlisted(self) -> list[str]:
        """As `Folder.unlisted`."""
        return layout.unlisted(self.root)

    def annotation(self, id: str, labels: Collection[str] | None = None) -> Annotation:
        """As `Folder.annotation`."""
        return layout.read_annotation(self.root, id, labels)

    def sample(self, id: str, annotation: Annotation | None = None) -> PersonSample:
        """As `Folder.sample`."""
        return layout.read_sample(self.root, id, annotation)

    def picture(self, id: str) -> bytes:
        """As `Folder.picture`."""
        return _bytes(layout.image_path(self.root, id), "picture")

    def files(self, id: str, pieces: bool = False) -> Iterator[tuple[str, bytes]]:
        """As `Folder.files`."""
        yield "picture", _bytes(layout.image_path(self.root, id), "picture", pieces)
        for suffix in (".json", ".npy"):
            yield suffix, _bytes(Path(f"{layout.stem(self.root, id)}{suffix}"), "file", pieces)

    def pictures(self, id: str) -> list[str]:
        """As `Folder.pictures`."""
        stem = layout.stem(self.root, id)
        return [suffix for suffix in layout.SUFFIXES if Path(f"{stem}{suffix}").exists()]

    def facts(self, ids: Iterable[str]) -> Iterable[str]:
        """As `Folder.facts`."""
        for id in ids:
            # As a text: of 70,000 samples, paths would take longer than the disk.
            stem = str(layout.stem(self.root, id))
            for suffix in (*layout.SUFFIXES, ".json", ".npy"):
                try:
                    stat = os.stat(stem + suffix)  # noqa: PTH116
                except OSError:
                    continue
                yield f"{id}{suffix} {stat.st_size} {stat.st_mtime_ns}"


def _bytes(path: Path, kind: str, pieces: bool = False) -> bytes:
    try:
        return glance(path) if pieces else path.read_bytes()
    except OSError as error:
        raise CorruptFile(f"{kind} '{path}' cannot be read: {error.strerror}.") from error


def folder_of(root: Path | str | Folder) -> Folder:
    """A folder; a path is one in FastComposer's layout."""
    return FastComposerFolder(root) if isinstance(root, str | Path) else root


def fingerprint(folder: Folder, ids: Iterable[str]) -> str:
    """Hash of what a folder holds: names, sizes and times of every listed file (no content is read)."""
    digest = hashlib.blake2b(digest_size=16)
    for line in folder.facts(ids):
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()


def dataset_card(root: Path) -> dict[str, Any] | None:
    """Read `dataset.json`, which rendered data carry and photographs do not. Raises: UserError."""
    path = Path(root) / "dataset.json"
    return layout.read_json(path) if path.exists() else None


def is_rendered(root: Path) -> bool:
    """Whether a folder holds rendered people."""
    return (dataset_card(root) or {}).get("kind") == "people"


def check_complete(folder: Path | Folder, rendered: bool = False) -> None:
    """Refuse a folder that is missing, that lists nothing, or (rendered people) that was never finished."""
    folder = folder_of(folder)
    root = folder.root
    if rendered and root.is_dir() and not (root / "dataset.json").exists():
        raise UserError(
            f"data folder '{root}' is half written: it has no dataset.json; "
            "run the same command again to finish it."
        )
    listed = len(folder.ids())
    promised = (dataset_card(root) or {}).get("num")
    if isinstance(promised, int) and promised > listed:
        raise UserError(f"data folder '{root}' is half written: dataset.json promises {promised} pictures.")
