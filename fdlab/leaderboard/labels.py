"""How rows of a table are called, so that no two are called the same where anything tells them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fdlab.config.schema import leaves
from fdlab.leaderboard.collect import Entry
from fdlab.leaderboard.pooling import seeds_of
from fdlab.records import table

_NAMES = ("name", "label")
_LONGEST = 12
"""Characters of a setting that a label shows."""


def labels(groups: Sequence[Sequence[Entry]]) -> list[str]:
    """A label for each group of pooled records: what it is, its run or how many seeds, and the settings in
    which it differs from others that would be called the same."""
    made = [_with_run(group) for group in groups]
    alike: dict[str, list[dict[str, Any]]] = {}
    for group, label in zip(groups, made, strict=True):
        alike.setdefault(label, []).append(dict(leaves(group[0].record["method"])))
    return [
        _with_settings(group[0].record["method"], label, alike[label])
        for group, label in zip(groups, made, strict=True)
    ]


def _with_run(group: Sequence[Entry]) -> str:
    first = group[0]
    kind = first.record["provenance"]["kind"]
    num = len(seeds_of(group))
    run = f"{num} seeds" if num > 1 else first.run
    return f"{table.label(first.record)} ({run if kind == 'measured' else f'{run}, {kind}'})"


def _with_settings(method: Mapping[str, Any], label: str, alike: Sequence[Mapping[str, Any]]) -> str:
    if len(alike) < 2:
        return label
    own = dict(leaves(dict(method)))
    differing = [
        key for key in own if key not in _NAMES and any(other.get(key) != own[key] for other in alike)
    ]
    said = ", ".join(f"{key.rpartition('.')[2]}={str(own[key])[:_LONGEST]}" for key in differing)
    return f"{label}: {said}" if said else label
