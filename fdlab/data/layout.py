"""FastComposer's folder layout, read and written.

    root/image_ids.txt | image_ids_train.txt | image_ids_test.txt     one id a line
    root/<first 5 characters of id>/<id>.{png,jpg}                    the picture
    root/<first 5 characters of id>/<id>.json                         caption and subjects
    root/<first 5 characters of id>/<id>.npy                          label map, pixel == segment id

Another writer of nearly this format says `box` for `bbox` and omits `coco_label`; both are read.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fdlab.data.pictures import read_photo
from fdlab.data.sample import PersonSample, Subject
from fdlab.errors import UserError, unknown
from fdlab.files import flush_all, write_bytes, write_json, write_text

SUFFIXES = (".png", ".jpg", ".jpeg")
SPLITS = ("all", "train", "test")


class CorruptFile(UserError):
    """One file of a data set cannot be read. What `data.skip_corrupt=true` passes over."""


@dataclass(frozen=True)
class Annotation:
    """What a sample's JSON says; subjects in the order of the caption."""

    id: str
    caption: str
    subjects: tuple[Subject, ...]
    truth: dict[str, Any] = field(default_factory=dict)


def read_ids(root: Path, split: str = "all") -> list[str]:
    """Ids of a split, in file order. `all` falls back to train + test where only those files exist."""
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
    missing = [name for name in names or ["image_ids.txt"] if not (root / name).exists()]
    if missing:
        raise UserError(
            f"data folder '{root}' has no {missing[0]}: not FastComposer's layout, or only half written."
        )
    ids = [line.strip() for name in names for line in (root / name).read_text().splitlines() if line.strip()]
    if not ids:
        raise UserError(f"data folder '{root}' lists no picture in {names[0]}.")
    if len(set(ids)) < len(ids):
        twice = next(a for a, b in zip(sorted(ids), sorted(ids)[1:], strict=False) if a == b)
        raise UserError(f"data folder '{root}' lists id '{twice}' twice.")
    return ids


def stem(root: Path, id: str) -> Path:
    """Path of a sample's files, without suffix."""
    return Path(root) / id[:5] / id


def image_path(root: Path, id: str) -> Path:
    """Path of a sample's picture, whichever suffix it has."""
    base = stem(root, id)
    for suffix in SUFFIXES:
        path = base.with_name(base.name + suffix)
        if path.exists():
            return path
    raise CorruptFile(
        f"data folder '{root}': picture '{id}' is missing ({' or '.join(SUFFIXES)} beside its json)."
    )


def read_annotation(root: Path, id: str) -> Annotation:
    """Caption, subjects and truth of one sample."""
    path = stem(root, id).with_name(id + ".json")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CorruptFile(f"data folder '{root}': '{path.relative_to(root)}' is missing.") from None
    except ValueError as error:
        raise CorruptFile(f"'{path}' is no JSON ({error}).") from None
    return parse_annotation(id, value, path)


def parse_annotation(id: str, value: dict[str, Any], path: Path | str) -> Annotation:
    """Make an annotation of a sample's JSON value; `path` is named in errors."""
    try:
        truth = dict(value.get("truth") or {})
        identities = {int(p["segment"]): p.get("identity") for p in truth.get("people", ())}
        caption = str(value["caption"])
        subjects = []
        for segment in value.get("segments", ()):
            x1, y1, x2, y2 = segment["bbox"] if "bbox" in segment else segment["box"]
            label = int(segment["id"])
            box = (math.floor(x1), math.floor(y1), math.ceil(x2), math.ceil(y2))
            subjects.append(Subject(label, int(segment["end"]), box, identities.get(label)))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CorruptFile(
            f"'{path}' is not a FastComposer annotation: {type(error).__name__} {error}."
        ) from None
    for subject in subjects:
        if not 0 < subject.end <= len(caption):
            raise CorruptFile(
                f"'{path}': subject {subject.segment} ends at character {subject.end} of a caption "
                f"of {len(caption)}."
            )
    return Annotation(id, caption, tuple(sorted(subjects, key=lambda s: s.end)), truth)


def read_image(path: Path) -> np.ndarray:
    """Decode a picture to uint8 RGB HW3; CorruptFile with its name when it is none."""
    try:
        return read_photo(path, "picture")
    except UserError as error:
        raise CorruptFile(
            f"{error} Repair or remove it, or skip such files with data.skip_corrupt=true."
        ) from error


def read_segments(path: Path) -> np.ndarray:
    """Read a label map HW of integers."""
    try:
        segments_HW = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise CorruptFile(f"label map '{path}' is missing: the data folder is half written.") from None
    except (ValueError, OSError, EOFError) as error:
        raise CorruptFile(f"label map '{path}' is corrupt ({error}).") from None
    if segments_HW.ndim != 2:
        raise CorruptFile(f"label map '{path}' has shape {segments_HW.shape}; H x W is needed.")
    if not np.issubdtype(segments_HW.dtype, np.integer):
        segments_HW = np.rint(segments_HW).astype(np.int64)
    return segments_HW


def read_sample(root: Path, id: str, annotation: Annotation | None = None) -> PersonSample:
    """Read one sample whole; every listed subject has at least one pixel."""
    annotation = annotation or read_annotation(root, id)
    path = image_path(root, id)
    image_HW3 = read_image(path)
    segments_HW = read_segments(stem(root, id).with_name(id + ".npy"))
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
    return PersonSample(id, annotation.caption, image_HW3, segments_HW, annotation.subjects, annotation.truth)


def write_sample(root: Path, sample: PersonSample, suffix: str = ".png") -> None:
    """Write a sample's files whole, the JSON last: where it exists, the sample is complete."""
    base = stem(Path(root), sample.id)
    image, labels = io.BytesIO(), io.BytesIO()
    if suffix == ".png":
        Image.fromarray(sample.image_HW3).save(image, "PNG")
    else:
        Image.fromarray(sample.image_HW3).save(image, "JPEG", quality=95)
    np.save(labels, sample.segments_HW)
    write_bytes(base.with_name(sample.id + suffix), image.getvalue(), flush=False)
    write_bytes(base.with_name(sample.id + ".npy"), labels.getvalue(), flush=False)
    value: dict[str, Any] = {"caption": sample.caption, "segments": [_segment(s) for s in sample.subjects]}
    if sample.truth:
        value["truth"] = sample.truth
    write_json(base.with_name(sample.id + ".json"), value, flush=False)


def _segment(subject: Subject) -> dict[str, Any]:
    return {"id": subject.segment, "coco_label": "person", "end": subject.end, "bbox": list(subject.bbox)}


def write_ids(root: Path, ids: Sequence[str], test: Iterable[str] = ()) -> None:
    """Write the lists of ids, all, train and test, after the samples that they name."""
    flush_all()
    held = set(test)
    lists = {"": ids, "_train": [i for i in ids if i not in held], "_test": [i for i in ids if i in held]}
    for name, members in lists.items():
        write_text(Path(root) / f"image_ids{name}.txt", "".join(f"{id}\n" for id in members))
