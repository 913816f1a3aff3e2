"""Every metric by name, found in the modules of this package: a new metric is a new module with `METRICS`."""

from __future__ import annotations

import importlib
import pkgutil

import fdlab.metrics
from fdlab.metrics.metric import LARGEST, NETWORKS, Metric


def discover() -> dict[str, Metric]:
    """Every metric of the package's modules, in the order of whole tables. ValueError for a name given twice.

    Packages within are not looked into: they hold other things, and some are slow to import.
    """
    found: dict[str, Metric] = {}
    for module in pkgutil.iter_modules(fdlab.metrics.__path__):
        name = f"{fdlab.metrics.__name__}.{module.name}"
        if module.ispkg or name == __name__:
            continue
        for metric in getattr(importlib.import_module(name), "METRICS", ()):
            if metric.name in found:
                raise ValueError(f"metric '{metric.name}' is defined twice")
            found[metric.name] = metric
    return dict(sorted(found.items(), key=lambda item: (item[1].place, item[0])))


SCORES = discover()
"""Every metric, those too that pictures alone have."""
METRICS = {name: metric for name, metric in SCORES.items() if metric.recorded is not None}
"""Every metric of records."""


def scored() -> list[Metric]:
    """Every metric in a record's order; those that pictures alone have last."""
    last = float("inf")
    return sorted(
        SCORES.values(), key=lambda m: (m.recorded is None, last if m.recorded is None else m.recorded)
    )


def of_pictures() -> list[Metric]:
    """What is kept of single pictures, in their order: by what measures it, what every picture has first."""
    kept = (metric for metric in scored() if metric.kept)
    return sorted(kept, key=lambda m: (NETWORKS.index(m.by), m.empty_without_face))


def short() -> list[str]:
    """The short table's metrics."""
    return _ordered("column")


def whole() -> list[str]:
    """Every metric of records, those of the short table first."""
    return [*short(), *(name for name in METRICS if METRICS[name].column is None)]


def tiles() -> list[str]:
    """The metrics on a report's tiles."""
    return _ordered("tile")


def ranked() -> list[str]:
    """What a table may be ordered by, the first that is measured."""
    return _ordered("rank")


def _ordered(key: str) -> list[str]:
    places = {name: getattr(metric, key) for name, metric in METRICS.items()}
    return sorted(
        (name for name, place in places.items() if place is not None), key=lambda name: places[name]
    )


def listing() -> str:
    """Every metric as a table in Markdown: what it says, its unit and range, what it needs."""
    lines = ["| metric | unit | from | to | better | needs | says |", "|---|---|---:|---:|---|---|---|"]
    for name, metric in SCORES.items():
        low, high = ("" if abs(end) >= LARGEST else f"{end:g}" for end in metric.limits)
        better = "higher" if metric.higher_is_better else "lower"
        needs = ", ".join(metric.needs)
        lines.append(f"| {name} | {metric.unit} | {low} | {high} | {better} | {needs} | {metric.about} |")
    return "\n".join(lines) + "\n"
