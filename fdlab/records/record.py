"""record.json, schema version 1: one method on one benchmark, with everything needed to tell whether two are
comparable.

The schema is a contract (names, units, directions). A number that does not exist is absent; NaN is never
written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fdlab.errors import UserError, unknown
from fdlab.files import write_json, write_text
from fdlab.metrics.bootstrap import Estimate
from fdlab.metrics.registry import METRICS

SCHEMA_VERSION = 1
RECORD = "record.json"
PER_SAMPLE = "per_sample.jsonl"


METRIC_KEYS = ("value", "ci_low", "ci_high", "n", "unit", "higher_is_better", "version", "extractor")
BENCHMARK_KEYS = ("name", "version", "sha256", "num_subjects", "num_prompts", "images_per_prompt")
METHOD_KEYS = ("name", "backbone", "sampler", "tdm", "sdm")
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


def write(folder: Path, record: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write per_sample.jsonl, then record.json, into `folder`; return the record's path."""
    lines = [json.dumps(row, allow_nan=False) + "\n" for row in rows]
    write_text(folder / PER_SAMPLE, "".join(lines))
    write_json(folder / RECORD, record)
    return folder / RECORD


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of a folder's per_sample.jsonl."""
    return [json.loads(line) for line in (folder / PER_SAMPLE).read_text().splitlines()]


def read(path: Path | str) -> dict[str, Any]:
    """Read a record and check it. UserError that names the file and the first thing wrong."""
    path = Path(path)
    try:
        record = json.loads(path.read_text(), parse_constant=_refuse)
    except FileNotFoundError as error:
        raise UserError(f"no record '{path}'.") from error
    except OSError as error:
        raise UserError(f"record '{path}' cannot be read: {error.strerror}.") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"record '{path}' is not valid JSON: {error}.") from error
    problem = next(problems(record), None)
    if problem:
        raise UserError(f"record '{path}': {problem}.")
    return dict(record)


def problems(record: Any) -> Iterator[str]:
    """Everything in which a record departs from the contract, one line each."""
    if not isinstance(record, dict):
        yield f"it is a {type(record).__name__}, not an object"
        return
    if record.get("schema_version") != SCHEMA_VERSION:
        yield f"schema_version is {record.get('schema_version')!r}; this fdlab reads {SCHEMA_VERSION}"
        return
    for part in ("benchmark", "method", "metrics", "provenance"):
        if not isinstance(record.get(part), dict):
            yield f"'{part}' is missing or no object"
            return
    yield from _missing(record["benchmark"], BENCHMARK_KEYS, "benchmark")
    yield from _missing(record["method"], METHOD_KEYS, "method")
    yield from _benchmark_problems(record["benchmark"])
    if not isinstance(record["method"].get("name"), str):
        yield "method.name is no text"
    kind = record["provenance"].get("kind")
    if kind not in ("measured", "quoted"):
        yield f"provenance.kind is {kind!r}; allowed: measured, quoted"
    elif kind == "quoted" and not record["provenance"].get("source"):
        yield "provenance.source is missing; a quoted record must say where from"
    elif kind == "measured":
        yield from _missing(record["provenance"], PROVENANCE_KEYS, "provenance")
    for name, entry in record["metrics"].items():
        yield from _metric_problems(name, entry)


def _benchmark_problems(benchmark: Mapping[str, Any]) -> Iterator[str]:
    for key in ("name", "sha256"):
        if key in benchmark and not isinstance(benchmark[key], str):
            yield f"benchmark.{key} is {benchmark[key]!r}, no text"
    for key in ("num_subjects", "num_prompts", "images_per_prompt"):
        value = benchmark.get(key, 1)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            yield f"benchmark.{key} is {value!r}; it counts from 1"


def _metric_problems(name: str, entry: Any) -> Iterator[str]:
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
    if not _number(entry["value"]):
        yield f"{where}.value is {entry['value']!r}, not a finite number"
    for key in ("ci_low", "ci_high"):
        if entry[key] is not None and not _number(entry[key]):
            yield f"{where}.{key} is {entry[key]!r}, neither null nor a finite number"
    if _number(entry["ci_low"]) and _number(entry["ci_high"]) and entry["ci_low"] > entry["ci_high"]:
        yield f"{where}: ci_low {entry['ci_low']} is above ci_high {entry['ci_high']}"
    if not isinstance(entry["n"], int) or isinstance(entry["n"], bool) or entry["n"] < 1:
        yield f"{where}.n is {entry['n']!r}; it counts images, from 1"
    if entry["higher_is_better"] != METRICS[name].higher_is_better:
        right = METRICS[name].higher_is_better
        yield f"{where}.higher_is_better is {entry['higher_is_better']!r}; it is {right} by its name"
    extractor = entry["extractor"]
    if not isinstance(extractor, dict) or not {"name", "sha256"} <= set(extractor):
        yield f"{where}.extractor must hold name and sha256"
    elif not isinstance(extractor["name"], str) or not isinstance(extractor["sha256"], str | None):
        yield f"{where}.extractor's name and sha256 must be text"
    elif name == "fid" and "inception-2015" not in str(extractor["name"]):
        by = extractor["name"]
        yield f"{where} is by '{by}'; only inception-2015 makes an FID, others are frechet_distance"


def _missing(entry: Mapping[str, Any], keys: Iterable[str], where: str) -> Iterator[str]:
    yield from (f"{where}.{key} is missing" for key in keys if key not in entry)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON number")
