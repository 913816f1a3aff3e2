"""FastComposer's folder layout, read and written.

    root/image_ids.txt | image_ids_train.txt | image_ids_test.txt     one id a line
    root/<first 5 characters of id>/<id>.{png,jpg}                    the picture
    root/<first 5 characters of id>/<id>.json                         caption and subjects, see `annotation`
    root/<first 5 characters of id>/<id>.npy                          label map, pixel == segment id

Axes: H W pixels, 3 RGB.
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fdlab import foreign
from fdlab.data.annotation import Annotation, parse, written
from fdlab.data.arrays import map_array
from fdlab.data.pictures import MAX_PIXELS, read_photo
from fdlab.data.sample import CorruptFile, PersonSample
from fdlab.errors import UserError, unknown
from fdlab.files import write_bytes, write_text

SUFFIXES = (".png", ".jpg", ".jpeg")
SPLITS = ("all", "train", "test")


def read_ids(root: Path, split: str = "all") -> list[str]:
    """Ids of a split, in file order. `all` falls back to train + test where only those files exist. Raises:
    UserError."""
    return without_faults(*list_ids(root, split))


def without_faults(ids: list[str], faults: Mapping[str, str]) -> list[str]:
    """The ids that a data set lists, nothing being wrong with its lists. Raises: UserError for the first
    fault."""
    for reason in faults.values():
        raise UserError(reason)
    return ids


def list_ids(root: Path, split: str = "all") -> tuple[list[str], dict[str, str]]:
    """The ids of a split that can be used, each once, and what is wrong with the list: entry to reason.
    Raises: UserError where there is no list, or it lists nothing."""
    root = Path(root)
    if not root.is_dir():
        raise UserError(
            f"data folder '{root}' does not exist; give a folder in FastComposer's layout (data.root)."
        )
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    names = {"all": ["image_ids.txt"], "train": ["image_ids_train.txt"], "test": ["image_ids_test.txt"]}[
        split
    ]
    if split == "all" and not (root / names[0]).exists():
        names = [name for name in ("image_ids_train.txt", "image_ids_test.txt") if (root / name).exists()]
    missing = [name for name in names or ["image_ids.txt"] if not (root / name).is_file()]
    if missing:
        raise UserError(
            f"data folder '{root}' has no {missing[0]}: not FastComposer's layout, or only half written;"
            " data=folder takes any."
        )
    ids: dict[str, None] = {}
    faults: dict[str, str] = {}
    for path, id in [(root / name, id) for name in names for id in _lines(root / name)]:
        if not is_id(id):
            faults[id] = (
                f"list of ids '{path}' holds {foreign.shown(id)}: an id is a file's name, without folders or "
                "suffix."
            )
        elif id in ids:
            faults[id] = f"data folder '{root}' lists id '{id}' twice."
        else:
            ids[id] = None
    if not ids and not faults:
        raise UserError(f"data folder '{root}' lists no picture in {names[0]}.")
    return list(ids), faults


def strays(root: Path) -> dict[str, str]:
    """What the lists say that cannot be: id to reason."""
    listed = _listed(root)
    found: dict[str, str] = {}
    for id in sorted(listed["train"] & listed["test"]):
        found[id] = f"data folder '{root}': '{id}' is of the split train and of test."
    for id in sorted((listed["train"] | listed["test"]) - listed["all"]):
        found[id] = f"data folder '{root}': a split lists '{id}', which image_ids.txt does not."
    return found


def unlisted(root: Path) -> list[str]:
    """Ids of samples that are there and in no list: the lists may well be a choice."""
    there = {path.stem for path in root.glob("*/*.json") if path.stem[:5] == path.parent.name}
    return sorted(there.difference(*_listed(root).values()))


def _listed(root: Path) -> dict[str, set[str]]:
    """Ids by split, `all` among them; none where a list is missing."""
    found = {"all": set(list_ids(root)[0])}
    for split in ("train", "test"):
        path = root / f"image_ids_{split}.txt"
        found[split] = set(filter(is_id, _lines(path))) if path.is_file() else set()
    return found


def is_id(text: str) -> bool:
    """Whether a text can be a sample's id, and so the name of its files."""
    return (
        text not in ("", ".", "..") and text.isprintable() and "/" not in text and len(text.encode()) <= 240
    )


def _lines(path: Path) -> list[str]:
    lines = foreign.text(path, "list of ids").removeprefix("\ufeff").split("\n")
    return [line.strip() for line in lines if line.strip()]


def stem(root: Path, id: str) -> Path:
    """Path of a sample's files, without suffix."""
    return Path(root) / id[:5] / id


def _beside(root: Path, id: str, suffix: str) -> Path:
    return stem(root, id).with_name(id + suffix)


def image_path(root: Path, id: str) -> Path:
    """Path of a sample's picture, whichever suffix it has."""
    for suffix in SUFFIXES:
        if (path := _beside(root, id, suffix)).exists():
            return path
    raise CorruptFile(
        f"data folder '{root}': picture '{id}' is missing ({' or '.join(SUFFIXES)} beside its json)."
    )


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises: CorruptFile."""
    try:
        value = foreign.read_json(path, "file")
    except UserError as error:
        raise CorruptFile(str(error)) from error
    if not isinstance(value, dict):
        raise CorruptFile(f"'{path}' holds a {type(value).__name__}; it must hold an object.")
    return value


def read_annotation(root: Path, id: str, labels: Collection[str] | None = None) -> Annotation:
    """Caption, subjects and truth of one sample; `labels` as of `annotation.parse`. Raises: CorruptFile."""
    path = _beside(root, id, ".json")
    return parse(id, read_json(path), path, labels)


def read_segments(path: Path) -> np.ndarray:
    """Read a label map HW of integers. CorruptFile where it is none: of another shape, with fractions or
    NaN."""
    return label_map(map_array(path, "label map"), f"label map '{path}'")


def label_map(array: np.ndarray, name: str) -> np.ndarray:
    """The same of an array that a file holds; `name` is what messages call it."""
    if array.ndim != 2 or array.dtype.kind not in "biuf" or array.size > MAX_PIXELS:
        raise CorruptFile(f"{name} is {array.dtype} {array.shape}; H x W numbers are needed.")
    segments_HW = np.array(array)
    if segments_HW.dtype.kind in "bf":
        if not (np.isfinite(segments_HW) & (segments_HW == np.rint(segments_HW))).all():
            raise CorruptFile(f"{name} holds numbers that are not whole.")
        segments_HW = segments_HW.astype(np.int64)
    return segments_HW


def read_sample(root: Path, id: str, annotation: Annotation | None = None) -> PersonSample:
    """Read one sample whole; every listed subject has at least one pixel. Raises: CorruptFile."""
    annotation = annotation or read_annotation(root, id)
    path = image_path(root, id)
    try:
        image_HW3 = read_photo(path, "picture")
    except UserError as error:
        raise unreadable(error) from error
    return joined(annotation, image_HW3, read_segments(_beside(root, id, ".npy")), str(path))


def unreadable(error: UserError) -> CorruptFile:
    """What a picture that cannot be read is to training."""
    return CorruptFile(f"{error} Repair or remove it, or skip such files with data.skip_corrupt=true.")


def joined(annotation: Annotation, image_HW3: np.ndarray, segments_HW: np.ndarray, path: str) -> PersonSample:
    """A sample of its parts; `path` names its picture. CorruptFile where they do not fit one another."""
    if image_HW3.shape[:2] != segments_HW.shape:
        raise CorruptFile(
            f"picture '{path}' is {image_HW3.shape[1]} x {image_HW3.shape[0]} but its label map "
            f"{segments_HW.shape[1]} x {segments_HW.shape[0]}."
        )
    for subject in annotation.subjects:
        if not (segments_HW == subject.segment).any():
            raise CorruptFile(
                f"'{path}': subject {subject.segment} of the caption has no pixel in the label map."
            )
    a = annotation
    return PersonSample(a.id, a.caption, image_HW3, segments_HW, a.subjects, a.truth)


def is_written(root: Path, id: str) -> bool:
    """Whether a sample is complete: its JSON comes last."""
    return _beside(root, id, ".json").exists()


def write_sample(root: Path, sample: PersonSample, picture: tuple[bytes, str] | None = None) -> None:
    """Write a sample's files whole, the JSON last; its subjects have pixels. `picture`: a file of the picture
    and its suffix, to be taken as it is in place of a new PNG. Nothing is flushed to the disk: who writes
    thousands does it once, before the mark that they are complete."""
    image, labels = io.BytesIO(), io.BytesIO()
    if picture is None:
        Image.fromarray(sample.image_HW3).save(image, "PNG", compress_level=3)
        picture = image.getvalue(), ".png"
    np.save(labels, sample.segments_HW)
    write_bytes(_beside(root, sample.id, picture[1]), picture[0], flush=False)
    write_bytes(_beside(root, sample.id, ".npy"), labels.getvalue(), flush=False)
    write_text(_beside(root, sample.id, ".json"), json.dumps(written(sample)), flush=False)


def write_ids(root: Path, ids: Sequence[str], test: Iterable[str] = ()) -> None:
    """Write the lists of ids: all, train and test."""
    held = set(test)
    lists = {"": ids, "_train": [i for i in ids if i not in held], "_test": [i for i in ids if i in held]}
    for name, members in lists.items():
        write_text(Path(root) / f"image_ids{name}.txt", "".join(f"{id}\n" for id in members))
