"""WebDataset's layout: tars of samples, each file of a sample named by its key; the JSON is FastComposer's
(`fdlab.data.annotation`).

    root/train-000000.tar, ...    KEY.png (or .jpg, ...)   the picture
    root/test-000000.tar, ...     KEY.json                 caption and subjects
                                  KEY.npy                  label map; absent: no masks
                                  KEY.txt                  caption, where the JSON has none

A tar whose name begins with `test` is of the split test, every other one of train. Any sample can be read at
any time, at its place in its tar: the order of training is the same function of the seed as from a folder,
resumes as exactly, and each process of a training reads its own share of the samples.

Axes: H W pixels.
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fdlab import foreign
from fdlab.data.annotation import Annotation, parse, written
from fdlab.data.arrays import array_of
from fdlab.data.layout import SPLITS, is_id, joined, label_map, unreadable, without_faults
from fdlab.data.pictures import photo_of
from fdlab.data.sample import CorruptFile, PersonSample
from fdlab.errors import UserError, unknown
from fdlab.layouts.captions import caption_of, only_caption
from fdlab.layouts.suffixes import PICTURES
from fdlab.layouts.tars import Tar, open_tar

TEST = "test"
"""How the names of the tars begin that are held out."""


class ShardFolder:
    """A folder of tars, or a single tar; as `fdlab.data.folder.Folder`."""

    kind = "webdataset"

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        paths = [self.root] if self.root.is_file() else sorted(self.root.glob("*.tar"))
        if not paths:
            raise UserError(f"data folder '{root}' holds no .tar: no shards as WebDataset has them.")
        self.tars = [open_tar(path) for path in paths]
        self.faults: dict[str, str] = {}
        self._tar_of: dict[str, Tar] = {}
        for tar in self.tars:
            self.faults |= tar.faults
            for id in tar.samples:
                if not is_id(id):
                    self.faults[id] = f"shard '{tar.path}' holds {foreign.shown(id)}, which cannot be an id."
                elif (first := self._tar_of.setdefault(id, tar)) is not tar:
                    self.faults[id] = f"sample '{id}' stands in '{first.path}' and again in '{tar.path}'."

    @property
    def has_masks(self) -> bool:
        """Whether the first sample has a label map."""
        return any(".npy" in parts for tar in self.tars for parts in list(tar.samples.values())[:1])

    def listed(self, split: str = "all") -> tuple[list[str], dict[str, str]]:
        """As `Folder.listed`."""
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
        chosen = [tar for tar in self.tars if split in ("all", TEST if _is_test(tar) else "train")]
        ids = [id for tar in chosen for id in tar.samples if self._tar_of.get(id) is tar]
        if not ids:
            raise UserError(
                f"data folder '{self.root}' holds no sample of split '{split}' (shards named {TEST}*.tar are "
                "held out, all others train)."
            )
        return ids, self.faults

    def ids(self, split: str = "all") -> list[str]:
        """As `Folder.ids`."""
        return without_faults(*self.listed(split))

    def strays(self) -> dict[str, str]:
        """As `Folder.strays`: what is no file of a sample is passed over."""
        return {}

    def unlisted(self) -> list[str]:
        """As `Folder.unlisted`: there are no lists."""
        return []

    def annotation(self, id: str, labels: Collection[str] | None = None) -> Annotation:
        """As `Folder.annotation`."""
        parts = self._parts(id)
        if ".json" not in parts:
            return only_caption(id, self._caption(id), self._name(id, ".txt"))
        value = self._json(id)
        if value.get("caption") is None and ".txt" in parts:
            value["caption"] = self._caption(id)
        return parse(id, value, Path(self._name(id, ".json")), labels)

    def sample(self, id: str, annotation: Annotation | None = None) -> PersonSample:
        """As `Folder.sample`."""
        annotation = annotation or self.annotation(id)
        name = self._name(id, self._picture(id))
        try:
            image_HW3 = photo_of(self.picture(id), f"picture '{name}'")
        except CorruptFile:
            raise
        except UserError as error:
            raise unreadable(error) from error
        if ".npy" in self._parts(id):
            map_name = f"label map '{self._name(id, '.npy')}'"
            segments_HW = label_map(array_of(self._read(id, ".npy"), map_name), map_name)
        elif annotation.subjects:
            raise CorruptFile(f"label map '{self._name(id, '.npy')}' is missing.")
        else:
            segments_HW = np.zeros(image_HW3.shape[:2], np.uint8)
        return joined(annotation, image_HW3, segments_HW, name)

    def picture(self, id: str) -> bytes:
        """As `Folder.picture`."""
        return self._read(id, self._picture(id))

    def files(self, id: str, pieces: bool = False) -> Iterator[tuple[str, bytes]]:
        """As `Folder.files`."""
        yield "picture", self._read(id, self._picture(id), pieces)
        for suffix in sorted({".json", ".npy", ".txt"} & set(self._parts(id))):
            yield suffix, self._read(id, suffix, pieces)

    def pictures(self, id: str) -> list[str]:
        """As `Folder.pictures`."""
        return [suffix for suffix in PICTURES if suffix in self._parts(id)]

    def facts(self, ids: Iterable[str]) -> Iterable[str]:
        """As `Folder.facts`: a line a tar that holds one of them."""
        for path in sorted({self._tar_of[id].path for id in ids if id in self._tar_of}):
            stat = path.stat()
            yield f"{path.name} {stat.st_size} {stat.st_mtime_ns}"

    def _parts(self, id: str) -> Collection[str]:
        if id not in self._tar_of:
            raise CorruptFile(f"data folder '{self.root}': no shard holds '{id}'.")
        return self._tar_of[id].samples[id]

    def _picture(self, id: str) -> str:
        if found := self.pictures(id):
            return found[0]
        raise CorruptFile(f"sample '{self._name(id)}' has no picture (.png, .jpg, ...).")

    def _read(self, id: str, suffix: str, pieces: bool = False) -> bytes:
        return self._tar_of[id].read(id, suffix, pieces)

    def _json(self, id: str) -> dict[str, Any]:
        name = f"file '{self._name(id, '.json')}'"
        try:
            value = foreign.parse_json(foreign.decoded(self._read(id, ".json"), name), name)
        except CorruptFile:
            raise
        except UserError as error:
            raise CorruptFile(str(error)) from error
        if not isinstance(value, dict):
            raise CorruptFile(
                f"'{self._name(id, '.json')}' holds a {type(value).__name__}; it must hold an object."
            )
        return value

    def _caption(self, id: str) -> str:
        if ".txt" not in self._parts(id):
            raise CorruptFile(f"sample '{self._name(id)}' has neither a .json nor a .txt with its caption.")
        return caption_of(self._read(id, ".txt"), self._name(id, ".txt"))

    def _name(self, id: str, suffix: str = "") -> str:
        return str(self._tar_of[id].path / (id + suffix))


def files_of(sample: PersonSample, picture: tuple[bytes, str], masks: bool = True) -> dict[str, bytes]:
    """A sample's files by suffix, the picture's (content, suffix) as given; a label map where there are
    `masks`."""
    files = {picture[1]: picture[0], ".json": json.dumps(written(sample)).encode()}
    if not masks:
        return files
    labels = io.BytesIO()
    np.save(labels, sample.segments_HW)
    return files | {".npy": labels.getvalue()}


def _is_test(tar: Tar) -> bool:
    return tar.path.name.startswith(TEST)
