"""breakdown.json: every score of pictures by category, by attribute of the people and by subject, with
intervals.

A category's or a group's interval resamples subjects, as the record's does. A subject is one cluster, so its
interval resamples prompts: it says how the number may move with other prompts, not with other people.
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
from fdlab.records.per_sample import ScoredPictures

BREAKDOWN = "breakdown.json"
SCHEMA_VERSION = 1

Table = dict[str, dict[str, Estimate]]
"""Category or subject -> metric -> estimate."""


def by_category(scored: ScoredPictures, seed: int = 0) -> Table:
    """Every score by prompt category, and the identity AUC where pictures carry similarities."""
    categories = scored.column("category")
    table: Table = {}
    for name in dict.fromkeys(categories.tolist()):
        here = categories == name
        table[name] = _means(scored, here, scored.clusters_NK, seed)
        auc = _auc(scored, here, seed)
        if auc is not None:
            table[name]["identity_auc"] = auc
    return table


def by_subject(scored: ScoredPictures, seed: int = 0) -> Table:
    """Every score by subject; a picture of several counts for each."""
    _, prompts_N = np.unique(scored.column("prompt"), return_inverse=True)
    return {
        name: _means(scored, (scored.group_NM == i).any(axis=1), prompts_N.reshape(-1, 1), seed)
        for i, name in enumerate(scored.subjects)
    }


def by_attribute(
    scored: ScoredPictures, attributes: Mapping[str, Mapping[str, str]], seed: int = 0
) -> dict[str, Table]:
    """Attribute -> every score by group of people, as age -> old; a picture of several counts for each
    group that it shows. `attributes`: subject -> attribute -> group."""
    made: dict[str, Table] = {}
    for attribute in dict.fromkeys(key for groups in attributes.values() for key in groups):
        group_S = np.array([attributes.get(name, {}).get(attribute, "") for name in scored.subjects])
        shown_NM = group_S[scored.group_NM]
        made[attribute] = {
            group: _means(scored, (shown_NM == group).any(axis=1), scored.clusters_NK, seed)
            for group in sorted({str(name) for name in group_S if name})
        }
    return made


def content(
    record: Mapping[str, Any],
    scored: ScoredPictures,
    seed: int = 0,
    attributes: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, Any]:
    """What breakdown.json holds; by attribute of the people where `attributes` says which they have."""
    groups = by_attribute(scored, attributes, seed) if attributes else {}
    return {
        "schema_version": SCHEMA_VERSION,
        "benchmark_sha256": record["benchmark"]["sha256"],
        "method": record["method"]["name"],
        "resampled": {"by_category": "subjects", "by_attribute": "subjects", "by_subject": "prompts"},
        "by_category": _as_json(by_category(scored, seed)),
        "by_attribute": {name: _as_json(table) for name, table in groups.items()},
        "by_subject": _as_json(by_subject(scored, seed)),
    }


def write(
    folder: Path,
    record: Mapping[str, Any],
    scored: ScoredPictures,
    seed: int = 0,
    attributes: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, Any]:
    """Write breakdown.json beside the record; return what it holds."""
    made = content(record, scored, seed, attributes)
    write_json(folder / BREAKDOWN, made)
    return made


def _means(
    scored: ScoredPictures, here_N: np.ndarray, clusters_NK: np.ndarray, seed: int
) -> dict[str, Estimate]:
    found = {
        name: clusters.mean(scored.values[name][here_N], clusters_NK[here_N], seed)
        for name in SCORES
        if name in scored.values
    }
    return {name: estimate for name, estimate in found.items() if estimate is not None}


def _auc(scored: ScoredPictures, here_N: np.ndarray, seed: int) -> Estimate | None:
    if scored.matches is None:
        return None
    if len(np.unique(scored.group_NM[here_N])) < len(scored.subjects):
        return None  # a gallery without everybody is another one
    return identity_auc.estimate(scored.matches.take(here_N), scored.clusters_NK[here_N], seed)


def _as_json(table: Table) -> dict[str, dict[str, dict[str, Any]]]:
    return {
        group: {
            name: {"value": e.value, "ci_low": e.low, "ci_high": e.high, "n": e.num}
            for name, e in entries.items()
        }
        for group, entries in table.items()
    }
