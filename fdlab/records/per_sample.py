"""A record's per_sample.jsonl as arrays that count as the record counts: what a miss is worth, who is whom.

N pictures, M subjects a picture, F faces of a picture, K clusters a picture, S subjects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fdlab import foreign
from fdlab.errors import UserError
from fdlab.foreign import is_count, is_number, is_texts, shown
from fdlab.metrics import clusters, identity, matching
from fdlab.metrics.matching import Matches
from fdlab.metrics.registry import METRICS, SCORES
from fdlab.records.record import PER_SAMPLE

NEEDED = ("id", "prompt", "index")
_COSINE, _PIXELS = (-1.000001, 1.000001), (-1e6, 1e6)
_ROUNDED, _ROUNDED_AUC = 2e-6, 1e-3
"""Rows keep six decimals, so a mean over them is as near to the record's value; ties may move an AUC more."""


@dataclass(frozen=True)
class Samples:
    """The pictures of one record."""

    rows: list[dict[str, Any]]
    subjects: tuple[str, ...]
    """In the benchmark's order."""
    group_NM: np.ndarray
    """Whom each picture was asked to show, as places in `subjects`."""
    clusters_NK: np.ndarray
    """What intervals resample, see `clusters.clusters`."""
    values: dict[str, np.ndarray] = field(default_factory=dict)
    """Metric name -> values_N, NaN where left out; their mean is the record's value."""
    matches: Matches | None = None
    """Faces and whom they are like; None where rows do not give the record's AUC."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Metric name -> why rows do not give the record's value."""

    @property
    def ids(self) -> list[str]:
        """Subjects, prompt and index of every picture in one word."""
        return [row["id"] for row in self.rows]

    @property
    def looked(self) -> bool:
        """Whether faces were looked for."""
        return any("face" in row or "faces" in row for row in self.rows)

    def column(self, key: str) -> np.ndarray:
        """A text of every row, "" where it has none."""
        return np.array([str(row.get(key) or "") for row in self.rows])


def drawn(row: Mapping[str, Any]) -> list[str]:
    """Whom a row's picture was asked to show."""
    several = row.get("subjects")
    return [str(name) for name in several] if several else [str(row["subject"])]


def faces(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The faces that count in a row's picture, each with box, score and, where known, similarity_to."""
    if "faces" in row:
        return [dict(face) for face in row["faces"]]
    face = row.get("face")
    return [] if face is None else [{**face, "similarity_to": row.get("similarity_to")}]


def read(folder: Path) -> list[dict[str, Any]]:
    """The rows of a folder's per_sample.jsonl. UserError for a missing file or the first line that is
    broken."""
    path = folder / PER_SAMPLE
    if not path.exists():
        raise UserError(f"no {PER_SAMPLE} in '{folder}': single pictures were not kept.")
    lines = foreign.text(path, "file").removesuffix("\n").split("\n")
    if lines == [""]:
        raise UserError(f"'{path}' is empty.")
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        row = foreign.parse_json(line, f"'{path}', line {number}")
        problem = next(problems(row), None)
        if problem is None and len(drawn(row)) != len(drawn(rows[0] if rows else row)):
            problem = "shows another number of subjects than the first"
        if problem is None and row["id"] in seen:
            problem = f"is of picture {shown(row['id'])}, which stands there twice"
        if problem is not None:
            raise UserError(f"'{path}', line {number} {problem}.")
        seen.add(row["id"])
        rows.append(row)
    return rows


def problems(row: Any) -> Iterator[str]:
    """In what a row departs from what `evaluation.scoring` writes, one line each."""
    lacking = [key for key in NEEDED if not isinstance(row, dict) or key not in row]
    if not lacking and not (row.get("subject") or row.get("subjects")):
        lacking = ["subject"]
    if lacking:
        yield f"lacks '{lacking[0]}'"
        return
    for key in ("id", "prompt", "subject", "category", "text", "file"):
        if key in row and not isinstance(row[key], str):
            yield f"has {key} {shown(row[key])}, no text"
    if not is_count(row["index"], 0):
        yield f"has index {shown(row['index'])}, no whole number from 0"
    if not is_texts(row.get("subjects", [])):
        yield f"has subjects {shown(row['subjects'])}, no list of texts"
        return
    yield from _face_problems(row)
    for name, metric in SCORES.items():
        value = row.get(name)
        if value is not None and not is_number(value, *metric.limits):
            low, high = metric.limits
            yield f"has {name} {shown(value)}; allowed: null, or a number from {low:g} to {high:g}"


def _face_problems(row: Mapping[str, Any]) -> Iterator[str]:
    """What is broken in a row's faces, and in who is who."""
    found = row.get("faces", [] if row.get("face") is None else [row["face"]])
    if not isinstance(found, list) or not all(isinstance(face, dict) for face in found):
        yield "has faces that are no objects"
        return
    for face in found:
        box = face.get("box")
        if not isinstance(box, list) or len(box) != 4 or not all(is_number(x, *_PIXELS) for x in box):
            yield f"has a face with box {shown(box)}, not four numbers"
        if not is_number(face.get("score"), 0.0, 1.0):
            yield f"has a face with score {shown(face.get('score'))}, no number from 0 to 1"
    for likes in [row.get("similarity_to"), *(face.get("similarity_to") for face in found)]:
        if likes is not None and not (isinstance(likes, list) and all(is_number(x, *_COSINE) for x in likes)):
            yield f"has similarity_to {shown(likes)}, no list of cosines"
    matches = row.get("matches", [])
    if not isinstance(matches, list) or len(matches) not in (0, len(drawn(row))):
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


def arrays(rows: Sequence[Mapping[str, Any]], metrics: Mapping[str, Mapping[str, Any]]) -> Samples:
    """Rows as arrays, each metric checked against the record's value; what rows cannot give is `left_out`."""
    named = dict.fromkeys(name for row in rows for name in drawn(row))
    values, left_out = {}, {}
    for name, entry in metrics.items():
        values_N = _values(rows, name, entry["n"])
        if values_N is None:
            left_out[name] = "not a score of single pictures"
        elif not abs(np.nanmean(values_N) - entry["value"]) <= _ROUNDED:
            left_out[name] = f"rows give {np.nanmean(values_N):.6f}, the record {entry['value']:.6f}"
        else:
            values[name] = values_N
    # What is no metric of the record's, such as diversity, counts as it stands.
    for name in SCORES:
        if name not in METRICS and any(isinstance(row.get(name), int | float) for row in rows):
            values[name] = _column(rows, name)
    subjects, matches = tuple(named), None
    auc = metrics.get("identity_auc", {}).get("value")
    if auc is not None:
        # Similarities are in the benchmark's order. Rows name subjects in it, unless its groups do otherwise.
        for order in (subjects, tuple(sorted(named))):
            found = _matches(rows, _groups(rows, order), len(order))
            if found is not None and abs(identity.auc(*found.flat()) - auc) <= _ROUNDED_AUC:
                subjects, matches = order, found
                break
    group_NM = _groups(rows, subjects)
    copies = [dict(row) for row in rows]
    return Samples(copies, subjects, group_NM, clusters.clusters(group_NM), values, matches, left_out)


def load(path: Path, record: Mapping[str, Any]) -> Samples:
    """The pictures of the record at `path`. UserError as `read`, or if the rows are another record's."""
    made = arrays(read(path.parent), record["metrics"])
    most = max((entry["n"] for entry in record["metrics"].values()), default=len(made.rows))
    if most != len(made.rows):
        raise UserError(f"record '{path}' counts {most} pictures, its {PER_SAMPLE} {len(made.rows)}.")
    if not made.values:
        raise UserError(f"record '{path}' and its {PER_SAMPLE} have no number in common.")
    return made


def _groups(rows: Sequence[Mapping[str, Any]], subjects: Sequence[str]) -> np.ndarray:
    place = {name: i for i, name in enumerate(subjects)}
    return np.array([[place[name] for name in drawn(row)] for row in rows])


def _values(rows: Sequence[Mapping[str, Any]], name: str, num: int) -> np.ndarray | None:
    """A metric's value for each picture, None where rows do not hold it. `num` is the record's count."""
    from_row = SCORES[name].from_row
    values = np.array([from_row(row) for row in rows]) if from_row else _column(rows, name)
    present = np.isfinite(values)
    if not present.any():
        return None
    if num == present.sum():
        return values
    # Rows leave a miss empty; where the record counts it, it counts 0: of those of whom any picture counts.
    missed = ~present & np.array([not faces(row) for row in rows])
    if num < len(values):
        known = {subject for row, there in zip(rows, present, strict=True) if there for subject in drawn(row)}
        missed &= np.array([not known.isdisjoint(drawn(row)) for row in rows])
    values = np.where(missed, 0.0, values)
    return values if np.isfinite(values).sum() == num else None


def _column(rows: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    cells = (row.get(key) for row in rows)
    return np.array([float(cell) if isinstance(cell, int | float) else np.nan for cell in cells])


def _matches(rows: Sequence[Mapping[str, Any]], group_NM: np.ndarray, num: int) -> Matches | None:
    """Faces matched to subjects again, from the similarities that rows keep."""
    similarities = [[face.get("similarity_to") or [] for face in faces(row)] for row in rows]
    if {len(similarity) for found in similarities for similarity in found} != {num}:
        return None
    return matching.match(
        [np.array(found, np.float64).reshape(-1, num) for found in similarities], group_NM, num
    )
