"""breakdown.json: every score of pictures by category and by subject, with intervals.

A category's interval resamples subjects, as the record's does. A subject is one cluster, so its interval
resamples prompts: it says how the number may move with other prompts, not with other people.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fdlab.files import write_json
from fdlab.metrics import clusters, identity_auc
from fdlab.metrics.bootstrap import Estimate
from fdlab.metrics.registry import SCORES
from fdlab.records.per_sample import Samples

BREAKDOWN = "breakdown.json"
SCHEMA_VERSION = 1

Table = dict[str, dict[str, Estimate]]
"""Category or subject -> metric -> estimate."""


def by_category(samples: Samples, seed: int = 0) -> Table:
    """Every score by prompt category, and the identity AUC where rows carry similarities."""
    categories = samples.column("category")
    table: Table = {}
    for name in dict.fromkeys(categories.tolist()):
        here = categories == name
        table[name] = _means(samples, here, samples.clusters_NK, seed)
        auc = _auc(samples, here, seed)
        if auc is not None:
            table[name]["identity_auc"] = auc
    return table


def by_subject(samples: Samples, seed: int = 0) -> Table:
    """Every score by subject; a picture of several counts for each."""
    _, prompts_N = np.unique(samples.column("prompt"), return_inverse=True)
    return {
        name: _means(samples, (samples.group_NM == i).any(axis=1), prompts_N.reshape(-1, 1), seed)
        for i, name in enumerate(samples.subjects)
    }


def content(record: Mapping[str, Any], samples: Samples, seed: int = 0) -> dict[str, Any]:
    """What breakdown.json holds."""
    return {
        "schema_version": SCHEMA_VERSION,
        "benchmark_sha256": record["benchmark"]["sha256"],
        "method": record["method"]["name"],
        "resampled": {"by_category": "subjects", "by_subject": "prompts"},
        "by_category": _plain(by_category(samples, seed)),
        "by_subject": _plain(by_subject(samples, seed)),
    }


def write(folder: Path, record: Mapping[str, Any], samples: Samples, seed: int = 0) -> dict[str, Any]:
    """Write breakdown.json beside the record; return what it holds."""
    made = content(record, samples, seed)
    write_json(folder / BREAKDOWN, made)
    return made


def _means(samples: Samples, here_N: np.ndarray, clusters_NK: np.ndarray, seed: int) -> dict[str, Estimate]:
    found = {
        name: clusters.mean(samples.values[name][here_N], clusters_NK[here_N], seed)
        for name in SCORES
        if name in samples.values
    }
    return {name: estimate for name, estimate in found.items() if estimate is not None}


def _auc(samples: Samples, here_N: np.ndarray, seed: int) -> Estimate | None:
    if samples.matches is None:
        return None
    if len(np.unique(samples.group_NM[here_N])) < len(samples.subjects):
        return None  # a gallery without everybody is another one
    return identity_auc.estimate(samples.matches.take(here_N), samples.clusters_NK[here_N], seed)


def _plain(table: Table) -> dict[str, dict[str, dict[str, Any]]]:
    return {
        group: {
            name: {"value": e.value, "ci_low": e.low, "ci_high": e.high, "n": e.num}
            for name, e in entries.items()
        }
        for group, entries in table.items()
    }
