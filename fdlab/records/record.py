"""record.json, schema version 1: one method on one benchmark, with everything needed to tell whether two are
comparable.

The schema is a contract (names, units, directions). A number that does not exist is absent; NaN is never
written.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fdlab import foreign
from fdlab.errors import UserError, unknown
from fdlab.files import write_json, write_text
from fdlab.foreign import is_count, is_number, is_span, is_texts, shown
from fdlab.metrics.bootstrap import Estimate
from fdlab.metrics.metric import Metric
from fdlab.metrics.registry import METRICS
from fdlab.records import migrations

SCHEMA_VERSION = 1
RECORD = "record.json"
PER_SAMPLE = "per_sample.jsonl"
MOST_BYTES = 1 << 24
"""Of a record: a thousand times what one has."""


METRIC_KEYS = ("value", "ci_low", "ci_high", "n", "unit", "higher_is_better", "version", "extractor")
BENCHMARK_KEYS = ("name", "version", "sha256", "num_subjects", "num_prompts", "images_per_prompt")
MODELS = ("tdm", "sdm")
METHOD_KEYS = ("name", "backbone", "sampler", *MODELS)
PROVENANCE_KEYS = (
    "kind", "source", "fdlab_version", "git_commit", "git_dirty", "config_sha256",
    "packages", "device", "seconds", "seed", "image_format", "created",
)  # fmt: skip


def metric(
    name: str, estimate: Estimate, extractor: Mapping[str, str | None], **extra: Any
) -> dict[str, Any]:
    """One entry of `metrics`. `extractor` is {"name", "sha256"}; the interval is null where none can be
    given."""
    spec = METRICS[name]
    return {
        "value": estimate.value,
        "ci_low": estimate.low,
        "ci_high": estimate.high,
        "n": estimate.num,
        "unit": spec.unit,
        "higher_is_better": spec.higher_is_better,
        "version": spec.version,
        "extractor": {"name": extractor["name"], "sha256": extractor["sha256"]},
        **extra,
    }


def build(
    benchmark: Mapping[str, Any],
    method: Mapping[str, Any],
    metrics: Mapping[str, Mapping[str, Any]],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """Assemble a record and check it. ValueError if it breaks the contract (that is a bug, not bad input)."""
    record = {
        "schema_version": SCHEMA_VERSION,
        "benchmark": dict(benchmark),
        "method": {**dict.fromkeys(METHOD_KEYS), **method},
        "metrics": {name: dict(entry) for name, entry in metrics.items()},
        "provenance": {**dict.fromkeys(PROVENANCE_KEYS), **provenance},
    }
    problem = next(problems(record), None)
    if problem:
        raise ValueError(f"record breaks its contract: {problem}")
    return record


def write(folder: Path, record: Mapping[str, Any], pictures: Iterable[Mapping[str, Any]]) -> Path:
    """Write per_sample.jsonl, then record.json, into `folder`; return the record's path."""
    lines = [json.dumps(picture, allow_nan=False) + "\n" for picture in pictures]
    write_text(folder / PER_SAMPLE, "".join(lines))
    write_json(folder / RECORD, record)
    return folder / RECORD


def read(path: Path | str) -> dict[str, Any]:
    """Read a record, bring it to the present schema version and check it. UserError that names the file and
    the first thing wrong."""
    path = Path(path)
    record = migrations.migrated(foreign.read_json(path, "record", MOST_BYTES), SCHEMA_VERSION)
    problem = next(problems(record), None)
    if problem:
        raise UserError(f"record '{path}': {problem}.")
    return dict(record)


def problems(record: Any) -> Iterator[str]:
    """Everything in which a record departs from the contract, one line each."""
    if not isinstance(record, dict):
        yield f"it is a {type(record).__name__}, not an object"
        return
    version: Any = record.get("schema_version")
    if not is_count(version) or version != SCHEMA_VERSION:
        newer = is_count(version) and version > SCHEMA_VERSION
        more = ": a newer fdlab wrote the record" if newer else ""
        yield f"schema_version is {shown(version)}; this fdlab reads {SCHEMA_VERSION}{more}"
        return
    for part in ("benchmark", "method", "metrics", "provenance"):
        if not isinstance(record.get(part), dict):
            yield f"'{part}' is missing or no object"
            return
    yield from _missing(record["benchmark"], BENCHMARK_KEYS, "benchmark")
    yield from _missing(record["method"], METHOD_KEYS, "method")
    yield from _benchmark_problems(record["benchmark"])
    yield from _method_problems(record["method"])
    yield from _provenance_problems(record["provenance"])
    most = num_pictures(record["benchmark"])
    for name, entry in record["metrics"].items():
        yield from _metric_problems(name, entry, most)


def num_pictures(benchmark: Mapping[str, Any]) -> int | None:
    """How many pictures a record's benchmark asks for; None where its counts are broken."""
    groups = benchmark.get("num_groups", benchmark.get("num_subjects"))
    counts = (groups, benchmark.get("num_prompts"), benchmark.get("images_per_prompt"))
    return math.prod(counts) if all(is_count(count) for count in counts) else None  # type: ignore[arg-type]


def _benchmark_problems(benchmark: Mapping[str, Any]) -> Iterator[str]:
    for key in ("name", "version", "sha256", "profile"):
        if not isinstance(benchmark.get(key, ""), str):
            yield f"benchmark.{key} is {shown(benchmark[key])}, no text"
    for key in ("num_subjects", "num_prompts", "images_per_prompt", "num_groups"):
        if not is_count(benchmark.get(key, 1)):
            yield f"benchmark.{key} is {shown(benchmark[key])}; it counts from 1"
    if not is_texts(benchmark.get("departures", [])):
        yield f"benchmark.departures is {shown(benchmark['departures'])}, no list of texts"
    people, most = benchmark.get("people", []), benchmark.get("num_subjects")
    if not isinstance(people, list) or not all(is_span(span) for span in people):
        yield f"benchmark.people is {shown(people)}, no list of spans [first, last] of whole numbers"
    elif is_count(most) and (num := sum(last - first + 1 for first, last in people)) > most:
        yield f"benchmark.people are {num}, more than its {most} subjects"


def _method_problems(method: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(method.get("name"), str):
        yield "method.name is no text"
    if not isinstance(method.get("label"), str | None):
        yield f"method.label is {shown(method['label'])}, no text"
    if not isinstance(method.get("training_steps"), str | int | None):
        yield f"method.training_steps is {shown(method['training_steps'])}, neither text nor a whole number"
    for kind in MODELS:
        if isinstance(model := method.get(kind), dict):
            yield from _model_problems(model, f"method.{kind}")


def _model_problems(model: Mapping[str, Any], where: str) -> Iterator[str]:
    """Who taught a model and whom it saw: marks rest on both, so nothing else may stand there."""
    taught_by, people, digest = model.get("taught_by"), model.get("people"), model.get("sha256")
    if digest is not None and not (isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)):
        yield f"{where}.sha256 is {shown(digest)}, no 64 hexadecimal digits"
    if taught_by is not None and not is_texts(taught_by):
        yield f"{where}.taught_by is {shown(taught_by)}, no list of texts"
    if people is None:
        return
    if not isinstance(people, list) or not all(isinstance(shown_by, dict) for shown_by in people):
        yield f"{where}.people is {shown(people)}, no list of objects"
        return
    for shown_by in people:
        if "rendered" in shown_by and not is_span(shown_by["rendered"]):
            given = shown(shown_by["rendered"])
            yield f"{where}.people has rendered {given}, no span [first, last] of whole numbers"


def _provenance_problems(provenance: Mapping[str, Any]) -> Iterator[str]:
    kind = provenance.get("kind")
    if kind not in ("measured", "quoted"):
        yield f"provenance.kind is {shown(kind)}; allowed: measured, quoted"
    elif kind == "quoted" and not (isinstance(provenance.get("source"), str) and provenance["source"]):
        yield "provenance.source is missing; a quoted record must say where from"
    elif kind == "measured":
        yield from _missing(provenance, PROVENANCE_KEYS, "provenance")


def _metric_problems(name: str, entry: Any, most: int | None) -> Iterator[str]:
    where = f"metrics.{name}"
    if name not in METRICS:
        yield str(unknown("metric", name, METRICS)).rstrip(".")
        return
    if not isinstance(entry, dict):
        yield f"{where} is no object"
        return
    lacking = list(_missing(entry, METRIC_KEYS, where))
    yield from lacking
    if lacking:
        return
    metric = METRICS[name]
    yield from _value_problems(metric, entry, where)
    if not is_count(entry["n"]):
        yield f"{where}.n is {shown(entry['n'])}; it counts images, from 1"
    elif most is not None and entry["n"] > most:
        yield f"{where}.n is {entry['n']}, but the benchmark has {most} pictures"
    for key, right in (("unit", metric.unit), ("higher_is_better", metric.higher_is_better)):
        if entry[key] != right or type(entry[key]) is not type(right):
            yield f"{where}.{key} is {shown(entry[key])}; it is {right!r} by its name"
    if not isinstance(entry["version"], str):
        yield f"{where}.version is {shown(entry['version'])}, no text"
    extractor = entry["extractor"]
    if not isinstance(extractor, dict) or not {"name", "sha256"} <= set(extractor):
        yield f"{where}.extractor must hold name and sha256"
    elif not isinstance(extractor["name"], str) or not isinstance(extractor["sha256"], str | None):
        yield f"{where}.extractor's name and sha256 must be text"
    elif metric.only_by not in extractor["name"]:
        yield f"{where} is by {shown(extractor['name'])}; it is measured by {metric.only_by} only"


def _value_problems(metric: Metric, entry: Mapping[str, Any], where: str) -> Iterator[str]:
    """A value or an end of its interval that is no number, or none that the metric can have."""
    value, low, high = entry["value"], entry["ci_low"], entry["ci_high"]
    if not is_number(value):
        yield f"{where}.value is {shown(value)}, not a finite number"
    elif not is_number(value, *widened(metric.limits)):
        yield f"{where}.value is {shown(value)}; allowed: {_between(metric.limits)} ({metric.unit})"
    for key in ("ci_low", "ci_high"):
        end = entry[key]
        if end is not None and not is_number(end):
            yield f"{where}.{key} is {shown(end)}, neither null nor a finite number"
        elif end is not None and not is_number(end, *widened(metric.interval_limits)):
            yield f"{where}.{key} is {shown(end)}; allowed: {_between(metric.interval_limits)}"
    if is_number(low) and is_number(high) and low > high:
        yield f"{where}: ci_low {low} is above ci_high {high}"
    elif is_number(value) and is_number(low) and low - value > _ROUNDED:
        yield f"{where}: ci_low {low} is above its value {value}"
    elif is_number(value) and is_number(high) and value - high > _ROUNDED:
        yield f"{where}: ci_high {high} is below its value {value}"


_ROUNDED = 1e-6
"""By how much an end may pass its value: of pictures that are all alike, both are the same but for
rounding."""


def widened(limits: tuple[float, float]) -> tuple[float, float]:
    """What is still let through of a metric's limits: sums round, and a mean of ones may be a little more."""
    return limits[0] - 1e-9, limits[1] + 1e-9


def _between(limits: tuple[float, float]) -> str:
    return f"{limits[0]:g} to {limits[1]:g}"


def _missing(entry: Mapping[str, Any], keys: Iterable[str], where: str) -> Iterator[str]:
    yield from (f"{where}.{key} is missing" for key in keys if key not in entry)
