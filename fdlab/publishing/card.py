"""A model card for a hub: the record's numbers as `model-index` metadata, and as text for people.

The metadata is the format that huggingface_hub reads (`EvalResult`): one result a metric, its dataset the
benchmark with the digest as revision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fdlab import escape
from fdlab.config.schema import written
from fdlab.leaderboard import marks, runs
from fdlab.leaderboard.collect import Entry
from fdlab.leaderboard.evidence import Evidence
from fdlab.metrics import registry
from fdlab.metrics.registry import METRICS
from fdlab.publishing import machine
from fdlab.records import table
from fdlab.records.comparability import described

TASK = {"type": "text-to-image", "name": "Drawing given people"}


def text(entry: Entry) -> str:
    """README.md of a model: metadata between dashes, then what was measured, how, and what speaks against
    it."""
    import yaml

    record = entry.record
    meta = yaml.safe_dump(metadata(record), sort_keys=False, allow_unicode=True, width=100)
    name = escape.markdown(table.label(record))
    lines = [
        f"---\n{meta}---\n",
        f"# {name}\n",
        f"Measured by fdlab on {escape.markdown(described(record['benchmark']))}.\n",
        table.markdown([record], registry.whole()),
        escape.markdown(table.note([record], taught=False)) + "\n",
    ]
    against = Evidence.read(entry).against
    words = [(mark.word, mark.text) for mark in marks.of(record)] + ([against] if against else [])
    said = [f"* {escape.markdown(f'{word}: {text}')}" for word, text in words]
    if said:
        lines.append("## What speaks against it\n\n" + "\n".join(said) + "\n")
    lines.append("## How it was made\n\n" + "\n".join(_origin(entry)) + "\n")
    return "\n".join(lines)


def metadata(record: Mapping[str, Any]) -> dict[str, Any]:
    """What stands between the dashes."""
    backbone = record["method"].get("backbone")
    result = {
        "task": dict(TASK),
        "dataset": _dataset(record["benchmark"]),
        "metrics": [_metric(name, record["metrics"][name]) for name in METRICS if name in record["metrics"]],
    }
    return {
        "library_name": "fdlab",
        "pipeline_tag": TASK["type"],
        "tags": ["personalization", "face", *([str(backbone)] if backbone else [])],
        "model-index": [{"name": escape.visible(table.label(record)), "results": [result]}],
    }


def _dataset(benchmark: Mapping[str, Any]) -> dict[str, Any]:
    name = escape.visible(f"{benchmark['name']} v{benchmark['version']}")
    made = {"type": escape.visible(str(benchmark["name"])), "name": name, "revision": benchmark["sha256"]}
    return {**made, "config": str(benchmark.get("profile") or "strict")}


def _metric(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    extractor = entry["extractor"]
    by = {
        "extractor": extractor["name"],
        "extractor_sha256": extractor["sha256"],
        "version": entry["version"],
    }
    interval = {"ci_low": entry["ci_low"], "ci_high": entry["ci_high"]}
    return {
        "type": name,
        "value": float(entry["value"]),
        "name": METRICS[name].label,
        "args": {**by, **interval, "n": entry["n"], "unit": entry["unit"]},
    }


def _origin(entry: Entry) -> list[str]:
    provenance, method = entry.record["provenance"], entry.record["method"]
    lines = [f"* training steps: {escape.markdown(table.steps(entry.record))}"]
    sampler = method.get("sampler")
    if isinstance(sampler, Mapping) and sampler:
        lines.append(
            f"* sampler: {escape.markdown(', '.join(f'{key}={written(v)}' for key, v in sampler.items()))}"
        )
    for kind in ("tdm", "sdm"):
        if isinstance(model := method.get(kind), dict):
            rate = model.get("text_encoder_lr")
            said = f", its text encoder trained as well, at {rate:g}" if isinstance(rate, float) else ""
            lines.append(f"* {kind.upper()}: sha256 `{escape.visible(str(model.get('sha256')))}`{said}")
    keys = ("fdlab_version", "git_commit", "device", "created")
    lines += [
        f"* {key.replace('_', ' ')}: {escape.markdown(str(provenance[key]))}"
        for key in keys
        if provenance.get(key)
    ]
    command = machine.command(runs.command_of(entry))
    return [*lines, f"\n```bash\n{escape.visible(command)}\n```"] if command else lines
