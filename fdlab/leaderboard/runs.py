"""What lies beside a record in its run: the command that made it, its configuration, its breakdown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fdlab import foreign
from fdlab.errors import UserError
from fdlab.leaderboard.collect import Entry
from fdlab.leaderboard.pooling import run_folder
from fdlab.metrics.registry import METRICS, SCORES
from fdlab.records.breakdown import BREAKDOWN

ENVIRONMENT = "environment.json"


def command_of(entry: Entry) -> list[str]:
    """The words of the command that repeats a record, as it was typed; none where the run does not say."""
    folder = run_folder(entry.path)
    found = _read(folder / ENVIRONMENT) if folder is not None else {}
    command: Any = found.get("command")
    if not foreign.is_texts(command) or len(command) < 2:
        return []
    return ["python", "-m", "fdlab", *command[1:]]


def breakdown_of(entry: Entry) -> dict[str, dict[str, dict[str, Any]]]:
    """What breakdown.json says by category and by attribute: {"category": {group: {metric: entry}}, "age":
    ...}; only what can be believed of it."""
    found = _read(entry.path.parent / BREAKDOWN)
    tables = {"category": found.get("by_category")}
    attributes = found.get("by_attribute")
    tables |= {str(name): table for name, table in _items(attributes)}
    kept: dict[str, dict[str, dict[str, Any]]] = {}
    for name, table in tables.items():
        groups = {str(group): _numbers(entries) for group, entries in _items(table)}
        groups = {group: entries for group, entries in groups.items() if entries and group}
        if groups:
            kept[name] = groups
    return kept


def _numbers(entries: Any) -> dict[str, Any]:
    ends = ("ci_low", "ci_high")
    return {
        str(name): entry
        for name, entry in _items(entries)
        if name in SCORES | METRICS
        and isinstance(entry, dict)
        and foreign.is_number(entry.get("value"), *_limits(name))
        and foreign.is_count(entry.get("n"))
        and all(entry.get(end) is None or foreign.is_number(entry[end], *_limits(name)) for end in ends)
    }


def _limits(name: str) -> tuple[float, float]:
    return (SCORES.get(name) or METRICS[name]).limits


def _items(value: Any) -> list[tuple[Any, Any]]:
    return list(value.items()) if isinstance(value, Mapping) else []


def _read(path: Path) -> dict[str, Any]:
    """An object in a JSON file; empty where there is none, or nothing that can be read."""
    if not path.is_file():
        return {}
    try:
        found = foreign.read_json(path, "file")
    except UserError:
        return {}
    return found if isinstance(found, dict) else {}
