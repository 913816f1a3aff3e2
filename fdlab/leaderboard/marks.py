"""What must be said of a record before its numbers are believed: who judged whom, who was seen in training,
what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fdlab import foreign
from fdlab.records import table
from fdlab.records.record import MODELS, num_pictures

CEILINGS = ("real", "autoencoder")
"""Rows of an evaluation that no method can reach: the true pictures, and these through the autoencoder."""


@dataclass(frozen=True)
class Mark:
    """One thing to be said, as a word for a table and in full."""

    word: str
    text: str
    unranks: bool = False
    """Whether a record so marked has no rank."""


HOLES = "pictures left out"
REFUTED = "its pictures do not give its numbers"
WIDTHS = "its interval is not its pictures'"
UNPROVEN = "no single pictures"
OTHERS = "other pictures than the others'"
CEILING = "ceiling"


def of(record: Mapping[str, Any], people: Sequence[Any] | None = None) -> list[Mark]:
    """Every mark of a record, the gravest first. `people` are spans of the benchmark's people; None: those
    that the record names."""
    asked = _spans(record["benchmark"].get("people") if people is None else people)
    return [
        *_origin(record), *_missing(record), *_judged(record), *_seen(record, asked), *_departures(record),
    ]  # fmt: skip


def people_of(records: Iterable[Mapping[str, Any]]) -> list[list[int]]:
    """The people of a benchmark as spans, of records of that benchmark: whoever any of them names, so that
    none is left unmarked by leaving them out."""
    return [span for record in records for span in _spans(record["benchmark"].get("people"))]


def pictures_of(record: Mapping[str, Any]) -> int:
    """How many pictures stand behind a record: as many as its fullest metric counts."""
    return max((entry["n"] for entry in record["metrics"].values()), default=0)


def _models(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    method = record.get("method", {})
    yield from (method[kind] for kind in MODELS if isinstance(method.get(kind), dict))


def _origin(record: Mapping[str, Any]) -> Iterator[Mark]:
    provenance = record["provenance"]
    if provenance["kind"] == "quoted":
        yield Mark("quoted", f"quoted from {provenance['source']}, not measured here", unranks=True)
    if record["method"]["name"] in CEILINGS and record["method"].get("sampler") == {}:
        yield Mark(CEILING, "no method: the benchmark's true pictures, which none can pass", unranks=True)


def incomplete(record: Mapping[str, Any]) -> bool:
    """Whether a record has fewer pictures than its benchmark asks for."""
    return any(True for _ in _missing(record))


def _missing(record: Mapping[str, Any]) -> Iterator[Mark]:
    asked, there = num_pictures(record["benchmark"]), pictures_of(record)
    if asked is not None and there < asked:
        text = f"{there:,} of the {asked:,} pictures that the benchmark asks for"
        yield Mark("incomplete", text, unranks=True)


def _judged(record: Mapping[str, Any]) -> Iterator[Mark]:
    for name in table.teachers(record):
        yield Mark("taught by its judge", f"trained to please {name}, which measured it here")


def _seen(record: Mapping[str, Any], asked: list[list[int]]) -> Iterator[Mark]:
    shown: list[Any] = []
    for model in _models(record):
        people = model.get("people")
        listed = people if isinstance(people, list) else []
        shown += [entry.get("rendered") for entry in listed if isinstance(entry, dict)]
    # Both may name somebody twice.
    seen = sum(_shared(span, other) for span in _apart(_spans(shown)) for other in _apart(asked))
    if seen:
        yield Mark("saw these people", f"trained on {seen:,} of the benchmark's own people")


def _departures(record: Mapping[str, Any]) -> Iterator[Mark]:
    for text in record["benchmark"].get("departures", ()):
        yield Mark("not as published", text)


def _spans(value: Any) -> list[list[int]]:
    """What of a record's entry are spans of numbers: it may hold anything."""
    return [span for span in value if foreign.is_span(span)] if isinstance(value, list) else []


def _apart(spans: list[list[int]]) -> list[list[int]]:
    """The same numbers in spans that do not overlap."""
    found: list[list[int]] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1]:
            found[-1][1] = max(found[-1][1], last)
        else:
            found.append([first, last])
    return found


def _shared(first: list[int], second: list[int]) -> int:
    return max(0, min(first[1], second[1]) - max(first[0], second[0]) + 1)
