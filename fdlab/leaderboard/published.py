"""Numbers quoted from papers, kept in experiments/published.yaml: shown beside measured ones, never among
them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdlab.errors import UserError

DEFAULT = Path(__file__).resolve().parents[2] / "experiments" / "published.yaml"


@dataclass(frozen=True)
class Quoted:
    """One protocol's published numbers."""

    id: str
    title: str
    protocol: str
    columns: dict[str, dict[str, Any]]
    """Key -> {name, higher_is_better}."""
    rows: list[dict[str, Any]]
    """method, source, and a number for each column it has; best first by the first column."""


def load(path: Path) -> list[Quoted]:
    """Read and check the file. Raises: UserError naming the entry that lacks something."""
    import yaml

    try:
        data = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"no file '{path}' with published numbers.") from error
    except yaml.YAMLError as error:
        raise UserError(f"'{path}' is not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(data, list):
        raise UserError(f"'{path}' must hold a list of protocols.")
    return [_quoted(entry, path) for entry in data]


def _quoted(entry: dict[str, Any], path: Path) -> Quoted:
    lacking = [key for key in ("id", "title", "protocol", "columns", "rows") if key not in entry]
    if lacking:
        raise UserError(f"'{path}': an entry lacks '{lacking[0]}'.")
    columns = entry["columns"]
    for row in entry["rows"]:
        for key in ("method", "source"):
            if not row.get(key):
                raise UserError(
                    f"'{path}', {entry['id']}: a row lacks '{key}'; quoted numbers say whose and where from."
                )
        for key in columns:
            if key in row and not (isinstance(row[key], int | float) and math.isfinite(row[key])):
                raise UserError(
                    f"'{path}', {entry['id']}, {row['method']}: {key} is {row[key]!r}, not a number."
                )
    first = next(iter(columns))
    sign = -1 if columns[first]["higher_is_better"] else 1
    rows = sorted(entry["rows"], key=lambda row: sign * row.get(first, -sign * math.inf))
    return Quoted(entry["id"], entry["title"], entry["protocol"], columns, rows)
