"""A record's per_sample.jsonl as arrays that count as the record counts: what a miss is worth, who is whom.

N pictures, M subjects a picture, F faces of a picture, K clusters a picture, S subjects.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from fdlab import foreign
from fdlab.errors import UserError
from fdlab.files import write_bytes, write_text
from fdlab.foreign import is_count, is_number, is_texts, shown
from fdlab.metrics import clusters, identity, matching
from fdlab.metrics.matching import Matches
from fdlab.metrics.registry import METRICS, SCORES
from fdlab.records.record import PER_SAMPLE, RECORD

PACKED = f"{PER_SAMPLE}.gz"
"""What travels with a board: a seventh of the bytes."""
NEEDED = ("id", "prompt", "index")
MOST_BYTES, MOST_PACKED = 1 << 34, 1 << 28
"""A million pictures of a thousand subjects have as many; packed is what travels, of some ten thousand."""
_COSINE, _PIXELS = (-1.000001, 1.000001), (-1e6, 1e6)
CONTRADICT = "pictures give "
"""How a reason begins that speaks against a record: others say only that pictures do not hold a metric."""
_ROUNDED, _ROUNDED_AUC = 2e-6, 1e-3
"""Six decimals are kept, so a mean over them is as near to the record's value; ties may move an AUC more."""


class Refuted(UserError):
    """A record's pictures contradict it."""


@dataclass(frozen=True)
class ScoredPictures:
    """The pictures of one record."""

    pictures: list[dict[str, Any]]
    subjects: tuple[str, ...]
    """In the benchmark's order."""
    group_NM: np.ndarray
    """Whom each picture was asked to show, as places in `subjects`."""
    clusters_NK: np.ndarray
    """What intervals resample, see `clusters.clusters`."""
    values: dict[str, np.ndarray] = field(default_factory=dict)
    """Metric name -> values_N, NaN where left out; their mean is the record's value."""
    matches: Matches | None = None
    """Faces and whom they are like; None where pictures do not give the record's AUC."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Metric name -> why pictures do not give the record's value."""

    @property
    def ids(self) -> list[str]:
        """Subjects, prompt and index of every picture in one word."""
        return [picture["id"] for picture in self.pictures]

    @property
    def contradictions(self) -> dict[str, str]:
        """Metric name -> how pictures contradict the record's value, of those that do."""
        found = {name: why for name, why in self.left_out.items() if why.startswith(CONTRADICT)}
        if self.matches is None and "identity_auc" in self.left_out and self._has_similarities():
            found["identity_auc"] = "the similarities of pictures do not give it"
        return found

    def _has_similarities(self) -> bool:
        return any(face.get("similarity_to") for picture in self.pictures for face in faces(picture))

    @property
    def looked(self) -> bool:
        """Whether faces were looked for."""
        return any("face" in picture or "faces" in picture for picture in self.pictures)

    def column(self, key: str) -> np.ndarray:
        """A text of every picture, "" where it has none."""
        return np.array([str(picture.get(key) or "") for picture in self.pictures])


def drawn(picture: Mapping[str, Any]) -> list[str]:
    """Whom a picture was asked to show."""
    several = picture.get("subjects")
    return [str(name) for name in several] if several else [str(picture["subject"])]


def file_of(picture: Mapping[str, Any]) -> str:
    """A picture's file, relative to its record's folder; empty for what is no relative path to a picture: a
    line is anybody's, and names no other file of this machine."""
    file = str(picture.get("file") or "")
    path = PurePosixPath(file)
    known = path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp")
    ok = known and not path.is_absolute() and ":" not in file and "\\" not in file and file.isprintable()
    # A second record's pictures lie beside its folder; nothing lies further up.
    return file if ok and path.parts.count("..") <= 1 else ""


def faces(picture: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The faces that count in a picture, each with box, score and, where known, similarity_to."""
    if "faces" in picture:
        return [dict(face) for face in picture["faces"]]
    face = picture.get("face")
    return [] if face is None else [{**face, "similarity_to": picture.get("similarity_to")}]


def kept(folder: Path) -> Path | None:
    """A folder's file of single pictures, as it was written or packed with gzip; None where there is none."""
    found = (folder / name for name in (PER_SAMPLE, PACKED) if os.path.lexists(folder / name))
    return next(found, None)


def keep(evaluation: Path, folder: Path, below: Path) -> None:
    """Copy what ranks and comparisons need of an evaluation: its record, in which paths begin at `below`, and
    the scores of its single pictures, packed. The same bytes whenever it is done."""
    record = (evaluation / RECORD).read_text(encoding="utf-8").replace(f"{below}/", "")
    write_text(folder / RECORD, record)
    write_bytes(folder / PACKED, gzip.compress((evaluation / PER_SAMPLE).read_bytes(), mtime=0))


def text(path: Path) -> str:
    """The lines of a file that `kept` found. UserError where it cannot be read."""
    if path.name == PACKED:
        return foreign.unpacked(path, "file", MOST_PACKED)
    return foreign.text(path, "file", MOST_BYTES)


def read(folder: Path) -> list[dict[str, Any]]:
    """The pictures of a folder's per_sample.jsonl, packed or not. UserError for a missing file or the first
    line that is broken."""
    path = kept(folder)
    if path is None:
        raise UserError(f"no {PER_SAMPLE} in '{folder}': single pictures were not kept.")
    lines = text(path).removesuffix("\n").split("\n")
    if lines == [""]:
        raise UserError(f"'{path}' is empty.")
    pictures: list[dict[str, Any]] = []
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        picture = foreign.parse_json(line, f"'{path}', line {number}")
        problem = next(problems(picture), None)
        if problem is None and len(drawn(picture)) != len(drawn(pictures[0] if pictures else picture)):
            problem = "shows another number of subjects than the first"
        if problem is None and picture["id"] in seen:
            problem = f"is of picture {shown(picture['id'])}, which stands there twice"
        if problem is not None:
            raise UserError(f"'{path}', line {number} {problem}.")
        seen.add(picture["id"])
        pictures.append(picture)
    return pictures


def problems(picture: Any) -> Iterator[str]:
    """In what a picture's line departs from what `evaluation.scoring` writes, one line each."""
    lacking = [key for key in NEEDED if not isinstance(picture, dict) or key not in picture]
    if not lacking and not (picture.get("subject") or picture.get("subjects")):
        lacking = ["subject"]
    if lacking:
        yield f"lacks '{lacking[0]}'"
        return
    for key in ("id", "prompt", "subject", "category", "text", "file"):
        if key in picture and not isinstance(picture[key], str):
            yield f"has {key} {shown(picture[key])}, no text"
    if not is_count(picture["index"], 0):
        yield f"has index {shown(picture['index'])}, no whole number from 0"
    if not is_texts(picture.get("subjects", [])):
        yield f"has subjects {shown(picture['subjects'])}, no list of texts"
        return
    yield from _face_problems(picture)
    for name, metric in SCORES.items():
        value = picture.get(name)
        if value is not None and not is_number(value, *metric.limits):
            low, high = metric.limits
            yield f"has {name} {shown(value)}; allowed: null, or a number from {low:g} to {high:g}"


def _face_problems(picture: Mapping[str, Any]) -> Iterator[str]:
    """What is broken in a picture's faces, and in who is who."""
    found = picture.get("faces", [] if picture.get("face") is None else [picture["face"]])
    if not isinstance(found, list) or not all(isinstance(face, dict) for face in found):
        yield "has faces that are no objects"
        return
    for face in found:
        box = face.get("box")
        if not isinstance(box, list) or len(box) != 4 or not all(is_number(x, *_PIXELS) for x in box):
            yield f"has a face with box {shown(box)}, not four numbers"
        if not is_number(face.get("score"), 0.0, 1.0):
            yield f"has a face with score {shown(face.get('score'))}, no number from 0 to 1"
    for likes in [picture.get("similarity_to"), *(face.get("similarity_to") for face in found)]:
        if likes is not None and not _are_cosines(likes):
            yield f"has similarity_to {shown(likes)}, no list of cosines"
    matches = picture.get("matches", [])
    if not isinstance(matches, list) or len(matches) not in (0, len(drawn(picture))):
        yield "has matches that are not one for each subject"
        return
    for match in matches:
        if not isinstance(match, dict) or not {"subject", "face", "identity_similarity"} <= match.keys():
            yield "has a match without subject, face or identity_similarity"
            return
        face, value = match["face"], match["identity_similarity"]
        if face is not None and not is_count(face, 0, len(found) - 1):
            yield f"has a match with face {shown(face)}, which it does not have"
        if value is not None and not is_number(value, *_COSINE):
            yield f"has a match with identity_similarity {shown(value)}, no cosine"


def _are_cosines(value: Any) -> bool:
    """Whether it is a list of cosines; of a hundred subjects a face has a hundred, nearly all of them
    floats."""
    low, high = _COSINE
    return isinstance(value, list) and all(
        low <= x <= high if type(x) is float else is_number(x, low, high) for x in value
    )


def arrays(pictures: Sequence[Mapping[str, Any]], metrics: Mapping[str, Mapping[str, Any]]) -> ScoredPictures:
    """Pictures as arrays, each metric checked against the record's value; what they cannot give is
    `left_out`."""
    named = dict.fromkeys(name for picture in pictures for name in drawn(picture))
    values, left_out = {}, {}
    for name, entry in metrics.items():
        values_N = _values(pictures, name, entry["n"])
        counted = 0 if values_N is None else int(np.isfinite(values_N).sum())
        if values_N is None:
            left_out[name] = "not a score of single pictures"
        elif counted != entry["n"]:
            left_out[name] = f"{CONTRADICT}{counted} values, the record counts {entry['n']}"
        elif not abs(np.nanmean(values_N) - entry["value"]) <= _ROUNDED:
            left_out[name] = f"{CONTRADICT}{np.nanmean(values_N):.6f}, the record {entry['value']:.6f}"
        else:
            values[name] = values_N
    # What is no metric of the record's, such as diversity, counts as it stands.
    for name in SCORES:
        if name not in METRICS and any(isinstance(picture.get(name), int | float) for picture in pictures):
            values[name] = _column(pictures, name)
    subjects, matches = tuple(named), None
    auc = metrics.get("identity_auc", {}).get("value")
    if auc is not None:
        # Similarities are in the benchmark's order. Pictures name subjects so, unless groups do otherwise.
        for order in (subjects, tuple(sorted(named))):
            found = _matches(pictures, _groups(pictures, order), len(order))
            if found is not None and abs(identity.auc(*found.flat()) - auc) <= _ROUNDED_AUC:
                subjects, matches = order, found
                break
    group_NM = _groups(pictures, subjects)
    copies = [dict(picture) for picture in pictures]
    return ScoredPictures(copies, subjects, group_NM, clusters.clusters(group_NM), values, matches, left_out)


def load(path: Path, record: Mapping[str, Any]) -> ScoredPictures:
    """The pictures of the record at `path`. UserError as `read`, or if they are another record's."""
    made = arrays(read(path.parent), record["metrics"])
    most = max((entry["n"] for entry in record["metrics"].values()), default=len(made.pictures))
    if most != len(made.pictures):
        raise Refuted(f"record '{path}' counts {most} pictures, its {PER_SAMPLE} {len(made.pictures)}.")
    if not made.values:
        raise (Refuted if made.contradictions else UserError)(
            f"record '{path}' and its {PER_SAMPLE} have no number in common."
        )
    return made


def _groups(pictures: Sequence[Mapping[str, Any]], subjects: Sequence[str]) -> np.ndarray:
    place = {name: i for i, name in enumerate(subjects)}
    return np.array([[place[name] for name in drawn(picture)] for picture in pictures])


def _values(pictures: Sequence[Mapping[str, Any]], name: str, num: int) -> np.ndarray | None:
    """A metric's value for each picture, None where none holds it. `num` is the record's count, which
    they need not reach."""
    from_picture = SCORES[name].from_picture
    values = (
        np.array([from_picture(picture) for picture in pictures]) if from_picture else _column(pictures, name)
    )
    present = np.isfinite(values)
    if not present.any():
        return None
    if num == present.sum():
        return values
    # A miss is left empty; where the record counts it, it counts 0: of those of whom any picture counts.
    missed = ~present & np.array([not faces(picture) for picture in pictures])
    if num < len(values):
        known = {
            subject
            for picture, there in zip(pictures, present, strict=True)
            if there
            for subject in drawn(picture)
        }
        missed &= np.array([not known.isdisjoint(drawn(picture)) for picture in pictures])
    return np.where(missed, 0.0, values)


def _column(pictures: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    cells = (picture.get(key) for picture in pictures)
    return np.array([float(cell) if isinstance(cell, int | float) else np.nan for cell in cells])


def _matches(pictures: Sequence[Mapping[str, Any]], group_NM: np.ndarray, num: int) -> Matches | None:
    """Faces matched to subjects again, from the similarities kept."""
    similarities = [[face.get("similarity_to") or [] for face in faces(picture)] for picture in pictures]
    if {len(similarity) for found in similarities for similarity in found} != {num}:
        return None
    return matching.match(
        [np.array(found, np.float64).reshape(-1, num) for found in similarities], group_NM, num
    )
