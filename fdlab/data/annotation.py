"""A sample's JSON: its caption and the subjects in it. One schema, for FastComposer's data and what is
written like them; keys that it does not name are passed over.

    {"caption": text without markers,
     "segments": [{"id": value in the label map, "end": offset just after the noun, "coco_label": text}, ...],
     "truth": {"people": [{"segment": id, "identity": number or null}, ...], ...}}      rendered people alone

Another writer of nearly this format omits `coco_label`: its segments count as whatever is asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fdlab.data.sample import CorruptFile, ShownSubject
from fdlab.foreign import is_number, shown
from fdlab.marker import MARKER

MOST_SEGMENTS = 1000
"""Of one picture: no caption names as many."""
LABEL = "person"
"""What rendered people, and FastComposer's subjects, are called."""


@dataclass(frozen=True)
class Annotation:
    """What a sample's JSON says; subjects in the order of the caption."""

    id: str
    caption: str
    subjects: tuple[ShownSubject, ...]
    truth: dict[str, Any] = field(default_factory=dict)
    others: frozenset[int] = frozenset()
    """Values in the label map of what was not asked for."""


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
    subjects, others = [], set()
    for segment in segments:
        label = schema.get(segment, "coco_label", str, "a segment", None)
        number = schema.number(segment, "id", "a segment")
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
        subjects.append(ShownSubject(number, end, identities.get(number)))
    return Annotation(id, caption, tuple(sorted(subjects, key=lambda s: s.end)), truth, frozenset(others))


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
