"""A sample's JSON: its caption and the subjects in it. One schema, for FastComposer's data and what is
written like them; keys that it does not name are passed over.

    {"caption": text without markers,
     "segments": [{"id": value in the label map, "end": offset just after the noun, "coco_label": text,
                   "bbox": [x1, y1, x2, y2], "identity": number, where it is known}, ...],
     "truth": {"people": [{"segment": id, "identity": number or null}, ...], ...}}      rendered people alone

Another writer of nearly this format omits `coco_label` (its segments count as whatever is asked for) and
calls the box `box`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fdlab.data.sample import LABEL, CorruptFile, PersonSample, ShownSubject
from fdlab.foreign import is_number, shown
from fdlab.marker import MARKER

Box = tuple[float, float, float, float]
BOXES = ("bbox", "box")
"""Keys of a segment's box."""
MOST_SEGMENTS = 1000
"""Of one picture: no caption names as many."""


@dataclass(frozen=True)
class Annotation:
    """What a sample's JSON says; subjects in the order of the caption."""

    id: str
    caption: str
    subjects: tuple[ShownSubject, ...]
    truth: dict[str, Any] = field(default_factory=dict)
    others: frozenset[int] = frozenset()
    """Values in the label map of what was not asked for."""
    flaws: tuple[str, ...] = ()
    """What is wrong though training passes over it."""
    blemishes: tuple[str, ...] = ()
    """The same, where a copy that `written` makes is without it."""


def parse(id: str, value: Mapping[str, Any], path: Path, labels: Collection[str] | None = None) -> Annotation:
    """Make an annotation of a sample's JSON; `path` is named in errors. Subjects are the segments whose label
    is one of `labels`, all where that is None. Raises: CorruptFile."""
    schema = _Schema(path)
    caption = str(schema.get(value, "caption", str, "the annotation"))
    if MARKER in caption:
        raise CorruptFile(f"'{path}': its caption holds a marker {MARKER}; take it out.")
    truth = schema.get(value, "truth", dict, "the annotation", {})
    identities = {}
    for person in schema.get(truth, "people", list, "'truth'", []):
        segment = schema.number(person, "segment", "a person of 'truth'")
        identities[segment] = schema.number(person, "identity", "a person of 'truth'", nullable=True)
    segments = schema.get(value, "segments", list, "the annotation", [])
    if len(segments) > MOST_SEGMENTS:
        raise schema.wrong(f"it has {len(segments)} segments, at most {MOST_SEGMENTS} are read")
    subjects: list[ShownSubject] = []
    others: set[int] = set()
    flaws, blemishes = caption_flaws(caption), []
    for segment in segments:
        label = schema.get(segment, "coco_label", str, "a segment", None)
        number = schema.number(segment, "id", "a segment")
        if number in others or number in {subject.segment for subject in subjects}:
            flaws.append(f"segment {number} stands twice")
        if labels is not None and label is not None and label not in labels:
            others.add(number)
            continue
        if number == 0:
            raise schema.wrong("a subject's 'id' is 0, which is the background")
        end = schema.number(segment, "end", "a segment")
        if not 0 < end <= len(caption):
            raise CorruptFile(
                f"'{path}': subject {number} ends at character {end} of a caption of {len(caption)}."
            )
        if caption[end - 1].isspace():
            flaws.append(f"subject {number} ends at character {end}, after a space and no noun")
        own = schema.number(segment, "identity", "a segment", nullable=True)
        box = _box(segment)
        if box is None and any(segment.get(key) is not None for key in BOXES):
            blemishes.append(f"the box of subject {number} is no x1 < x2, y1 < y2 in four numbers")
        subjects.append(ShownSubject(number, end, identities.get(number, own), label, box))
    subjects.sort(key=lambda subject: subject.end)
    found = (tuple(flaws), tuple(blemishes))
    return Annotation(id, caption, tuple(subjects), truth, frozenset(others), *found)


def caption_flaws(caption: str) -> list[str]:
    """What is wrong with a caption that can be read."""
    if not caption.strip():
        return ["its caption is empty"]
    if "\ufffd" in caption:
        return ["its caption lost letters when it was decoded (\\ufffd)"]
    return [] if caption.isprintable() else ["its caption holds a line break or a control character"]


def written(sample: PersonSample) -> dict[str, Any]:
    """The JSON of a sample, whose subjects have pixels: the inverse of `parse`. Boxes are as they were read,
    else the masks'."""
    known = {person.get("segment") for person in sample.truth.get("people", [])}
    segments = []
    for s in sample.subjects:
        box = mask_box(sample.segments_HW == s.segment) if s.box is None else list(s.box)
        segment = {"id": s.segment, "coco_label": s.label or LABEL, "end": s.end, "bbox": box}
        if s.identity is not None and s.segment not in known:
            segment["identity"] = s.identity
        segments.append(segment)
    return {
        "caption": sample.caption,
        "segments": segments,
        **({"truth": sample.truth} if sample.truth else {}),
    }


def mask_box(mask_HW: np.ndarray) -> list[int]:
    """x1, y1, x2, y2 (exclusive) of what a mask marks."""
    y, x = np.nonzero(mask_HW)
    return [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1]


def _box(segment: Mapping[str, Any]) -> Box | None:
    """A segment's box, under either of its names; None where there is none that can be one."""
    found = next((segment[key] for key in BOXES if segment.get(key) is not None), None)
    if not isinstance(found, list) or len(found) != 4 or not all(map(is_number, found)):
        return None
    x1, y1, x2, y2 = found
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


@dataclass(frozen=True)
class _Schema:
    """Values of a foreign JSON by their type; all that is wrong is a CorruptFile that names the file."""

    path: Path

    def wrong(self, what: str) -> CorruptFile:
        return CorruptFile(f"'{self.path}' is not a FastComposer annotation: {what}.")

    def get(self, entry: Any, key: str, kind: type, where: str, default: Any = ...) -> Any:
        """A value of one type; null counts as absent."""
        if not isinstance(entry, dict):
            raise self.wrong(f"{where} is {shown(entry)}, an object is needed")
        found = entry.get(key)
        if found is None:
            if default is ...:
                raise self.wrong(f"{where} has no '{key}'")
            return default
        if not isinstance(found, kind):
            raise self.wrong(f"'{key}' of {where} is {shown(found)}, a {kind.__name__} is needed")
        return found

    def number(self, entry: Any, key: str, where: str, nullable: bool = False) -> Any:
        """A whole number that a label map can hold, from 0."""
        found = self.get(entry, key, object, where, None if nullable else ...)
        if found is None and nullable:
            return None
        if not is_number(found, 0, 2**31 - 1) or found != int(found):
            raise self.wrong(f"'{key}' of {where} is {shown(found)}, a whole number from 0 is needed")
        return int(found)
