"""record.json's contract as JSON Schema (2020-12), for checks outside of fdlab: `record.schema.json`.

It is made from what `record.problems` checks, and a test holds the file to it. What JSON Schema cannot say
is left to that: that no metric counts more pictures than the benchmark has, and this no more people than
subjects, that no interval is upside down or beside its value, and no span upside down. To JSON Schema 1.0 is
a whole number; fdlab wants it written as 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fdlab.foreign import LARGEST
from fdlab.metrics.metric import Metric
from fdlab.metrics.registry import METRICS
from fdlab.records.record import (
    BENCHMARK_KEYS,
    METHOD_KEYS,
    METRIC_KEYS,
    MODELS,
    PROVENANCE_KEYS,
    SCHEMA_VERSION,
    widened,
)

FILE = Path(__file__).with_name("record.schema.json")
ID = f"urn:fdlab:record:{SCHEMA_VERSION}"
_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_SPAN = {
    "type": "array", "minItems": 2, "maxItems": 2,
    "items": {"type": "integer", "minimum": 0, "maximum": LARGEST},
}  # fmt: skip
_COUNT = {"type": "integer", "minimum": 1, "maximum": LARGEST}


def json_schema() -> dict[str, Any]:
    """The schema of the version that this fdlab writes."""
    parts = {
        "benchmark": _benchmark(),
        "method": _method(),
        "metrics": {
            "type": "object",
            "additionalProperties": False,
            "properties": {name: _metric(metric) for name, metric in METRICS.items()},
        },
        "provenance": _provenance(),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ID,
        "title": f"fdlab record, schema version {SCHEMA_VERSION}",
        "description": "One method on one benchmark, with all that says whether two are comparable.",
        "type": "object",
        "required": ["schema_version", *parts],
        "properties": {"schema_version": {"const": SCHEMA_VERSION}, **parts},
    }


def _benchmark() -> dict[str, Any]:
    counts = ("num_subjects", "num_prompts", "images_per_prompt", "num_groups")
    return {
        "type": "object",
        "required": list(BENCHMARK_KEYS),
        "properties": {
            **dict.fromkeys(("name", "version", "sha256", "profile"), _TEXT),
            **dict.fromkeys(counts, _COUNT),
            "departures": _TEXTS,
            "people": {"type": "array", "items": _SPAN},
        },
    }


def _method() -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(METHOD_KEYS),
        "properties": {
            "name": _TEXT,
            "label": {"type": ["string", "null"]},
            "training_steps": {"type": ["string", "integer", "null"]},
            **dict.fromkeys(MODELS, _model()),
        },
    }


def _model() -> dict[str, Any]:
    # No type: what is no object says nothing of a model.
    people = {"type": "object", "properties": {"rendered": _SPAN}}
    lists = {"taught_by": _TEXT, "people": people}
    return {
        "properties": {key: {"type": ["array", "null"], "items": item} for key, item in lists.items()},
    }


def _metric(metric: Metric) -> dict[str, Any]:
    ends = {"type": ["number", "null"], **_between(metric.interval_limits)}
    by = {"type": "string", **({"pattern": metric.only_by} if metric.only_by else {})}
    return {
        "type": "object",
        "description": metric.about,
        "required": list(METRIC_KEYS),
        "properties": {
            "value": {"type": "number", **_between(metric.limits)},
            "ci_low": ends,
            "ci_high": ends,
            "n": _COUNT,
            "unit": {"const": metric.unit},
            "higher_is_better": {"const": metric.higher_is_better},
            "version": _TEXT,
            "extractor": {
                "type": "object",
                "required": ["name", "sha256"],
                "properties": {"name": by, "sha256": {"type": ["string", "null"]}},
            },
        },
    }


def _provenance() -> dict[str, Any]:
    def kind(name: str) -> dict[str, Any]:
        return {"properties": {"kind": {"const": name}}, "required": ["kind"]}

    source = {"required": ["source"], "properties": {"source": {"type": "string", "minLength": 1}}}
    return {
        "type": "object",
        "required": ["kind"],
        "properties": {"kind": {"enum": ["measured", "quoted"]}},
        "allOf": [
            {"if": kind("measured"), "then": {"required": list(PROVENANCE_KEYS)}},
            {"if": kind("quoted"), "then": source},
        ],
    }


def _between(limits: tuple[float, float]) -> dict[str, float]:
    low, high = widened(limits)
    return {"minimum": low, "maximum": high}
