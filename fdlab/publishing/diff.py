"""What tells two runs apart: settings, weights, and scores with the significance of paired differences."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fdlab import escape
from fdlab.config.schema import leaves, written
from fdlab.errors import UserError
from fdlab.leaderboard import pooling
from fdlab.leaderboard.collect import Entry
from fdlab.leaderboard.compare import Comparison, as_dict, compare
from fdlab.publishing import compare_formats
from fdlab.records import table

WEIGHTS = ("tdm", "sdm", "vae", "pictures")
"""Parts of a record's method that are known by a digest."""
_BENCHMARK = ("name", "version", "sha256", "num_subjects", "num_prompts", "images_per_prompt")
_DIGEST = 12
_UNKNOWN = "-"

Change = tuple[str, str, str]
"""What differs, and A's and B's value of it."""


@dataclass(frozen=True)
class Difference:
    """Two records and all in which they differ."""

    a: Entry
    b: Entry
    settings: list[Change]
    weights: list[Change]
    comparison: Comparison | None
    problem: str = ""
    """Why scores cannot be paired, empty where they are."""
    note: str = ""
    """What settings rest on, where it is not both configurations."""


def diff(a: Entry, b: Entry) -> Difference:
    """Everything in which two records differ. Scores are paired where they may be compared."""
    configs = [pooling.config_of(entry) for entry in (a, b)]
    bare = [side for side, config in zip("AB", configs, strict=True) if config is None]
    said = [_of_record(entry) for entry in (a, b)]
    if not bare:
        said = [
            {**_benchmark(entry), **(config or {})} for entry, config in zip((a, b), configs, strict=True)
        ]
    texts = [{key: written(value) for key, value in each.items()} for each in said]
    note = f"{' and '.join(bare)} without {pooling.CONFIG}: settings are what records say" if bare else ""
    settings, weights = _changes(*texts), _changes(_weights(a), _weights(b))
    try:
        return Difference(a, b, settings, weights, compare(a, b), note=note)
    except UserError as error:
        return Difference(a, b, settings, weights, None, str(error), note)


def _of_record(entry: Entry) -> dict[str, Any]:
    """What a record says of its method and of what it was measured on."""
    method = {f"method.{k}": v for k, v in leaves(_unweighted(entry.record["method"]))}
    return {**_benchmark(entry), **method}


def _benchmark(entry: Entry) -> dict[str, Any]:
    about = entry.record["benchmark"]
    return {f"benchmark.{key}": about[key] for key in _BENCHMARK}


def _unweighted(method: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in method.items() if key not in WEIGHTS}


def _weights(entry: Entry) -> dict[str, str]:
    method = entry.record["method"]
    return {
        key: f"{str(part.get('sha256'))[:_DIGEST]} ({part.get('source', 'given')})"
        for key in WEIGHTS
        if isinstance(part := method.get(key), dict)
    }


def _changes(a: Mapping[str, str], b: Mapping[str, str]) -> list[Change]:
    keys = sorted({*a, *b})
    return [(k, a.get(k, _UNKNOWN), b.get(k, _UNKNOWN)) for k in keys if a.get(k) != b.get(k)]


def markdown(made: Difference) -> str:
    """All of it in Markdown."""
    lines = [f"{side}: {escape.markdown(_named(entry))}  " for side, entry in (("A", made.a), ("B", made.b))]
    for title, changes in (("Settings", made.settings), ("Weights", made.weights)):
        lines += ["", f"## {title} that differ", "", *(_rows(changes) or ["None."])]
        if title == "Settings" and made.note:
            lines += ["", f"({escape.markdown(made.note)}.)"]
    text = "\n".join(lines) + "\n\n"
    if made.comparison is None:
        return f"{text}## Scores\n\nNot paired: {escape.markdown(made.problem)}\n"
    return text + compare_formats.markdown(made.comparison)


def _rows(changes: list[Change]) -> list[str]:
    if not changes:
        return []
    cells = [[escape.markdown(cell) for cell in change] for change in changes]
    return ["| key | A | B |", "|---|---|---|", *("| " + " | ".join(row) + " |" for row in cells)]


def as_json(made: Difference) -> str:
    """The same as JSON: settings and weights as {key: [A, B]}, scores as of `compare.as_dict`."""
    found = {
        "schema_version": 1,
        "kind": "difference",
        "a": str(made.a.path),
        "b": str(made.b.path),
        "settings": {key: values for key, *values in made.settings},
        "settings_of": made.note or "configurations",
        "weights": {key: values for key, *values in made.weights},
        "scores": None if made.comparison is None else as_dict(made.comparison),
        "not_paired": made.problem or None,
    }
    return json.dumps(found, indent=2, allow_nan=False) + "\n"


def show(made: Difference) -> None:
    """Print it to the terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a pipe has no width of its own
    for side, entry in (("A", made.a), ("B", made.b)):
        console.print(escape.terminal(f"{side}: {_named(entry)}"))
    if made.note:
        console.print(escape.terminal(f"({made.note})"))
    for title, changes in (("settings", made.settings), ("weights", made.weights)):
        if not changes:
            console.print(f"\nno {title} differ")
            continue
        shown = Table(
            "key", "A", "B", title=f"{title} that differ", box=box.SIMPLE_HEAD, title_justify="left"
        )
        for change in changes:
            shown.add_row(*(escape.terminal(cell) for cell in change))
        console.print(shown)
    if made.comparison is None:
        console.print(escape.terminal(f"scores are not paired: {made.problem}"))
    else:
        compare_formats.show(made.comparison)


def _named(entry: Entry) -> str:
    return f"{table.label(entry.record)} ({entry.path})"
