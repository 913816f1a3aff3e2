"""Numbers quoted from papers, kept in experiments/published.yaml: shown beside measured ones, never among
them.

A quoted table stands right below measured ones of the same benchmark and profile, where there are any, and
has columns of its own: values may share a column only if the digests of pictures and extractor agree, and a
paper gives neither.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fdlab import foreign
from fdlab.errors import UserError, unknown
from fdlab.foreign import shown
from fdlab.metrics.metric import UNITS

DEFAULT = Path(__file__).resolve().parents[2] / "experiments" / "published.yaml"

LIMITS = {unit: UNITS[unit] for unit in ("cosine", "share", "percent", "distance")}
"""What a unit allows."""

ENTRY_KEYS = (
    "id", "title", "benchmark", "profile", "counts", "protocol", "source", "unverified", "columns", "rows",
)  # fmt: skip
COUNT_KEYS = ("num_subjects", "num_prompts", "images_per_prompt")
SOURCE_KEYS = ("paper", "arxiv", "table")
COLUMN_KEYS = ("name", "unit", "higher_is_better")
ROW_KEYS = ("method", "measured_by")
OPTIONAL = ("references", "deviation")


@dataclass(frozen=True)
class Quoted:
    """One protocol's published numbers."""

    id: str
    title: str
    protocol: str
    columns: dict[str, dict[str, Any]]
    """Key -> {name, unit, higher_is_better}."""
    rows: list[dict[str, Any]]
    """method, measured_by, source, and a number for each column it has; best first by the first column."""
    source: dict[str, Any] = field(default_factory=dict)
    """paper, arxiv, table."""
    benchmark: str | None = None
    """Name of the benchmark here that follows the same protocol."""
    profile: str | None = None
    """Name of the way of scoring here that follows the same protocol."""
    counts: dict[str, int] = field(default_factory=dict)
    """num_subjects, num_prompts, images_per_prompt."""
    unverified: list[str] = field(default_factory=list)
    """What was not read at the source."""

    def follows(self, benchmark: Mapping[str, Any]) -> bool:
        """Whether a record's `benchmark` entry is of the same protocol: name, size and profile agree, and
        nothing departs from that profile."""
        if self.benchmark is None or benchmark.get("name") != self.benchmark or benchmark.get("departures"):
            return False
        same_size = all(benchmark.get(key) == count for key, count in self.counts.items())
        return same_size and benchmark.get("profile") == self.profile

    @property
    def notes(self) -> list[str]:
        """What must be read with the numbers."""
        return [self.protocol, *(f"Unverified: {text}" for text in self.unverified)]


def load(path: Path) -> list[Quoted]:
    """Read and check the file. Raises: UserError naming the entry and the first thing wrong with it."""
    data = foreign.read_yaml(path, "file with published numbers")
    if not isinstance(data, list):
        raise UserError(f"'{path}' must hold a list of protocols.")
    quoted = [_quoted(entry, f"'{path}', entry {number}") for number, entry in enumerate(data, 1)]
    for name, num in Counter(entry.id for entry in quoted).items():
        if num > 1:
            raise UserError(f"'{path}': id {shown(name)} stands there twice.")
    return quoted


def _quoted(entry: Any, where: str) -> Quoted:
    entry = _object(entry, ENTRY_KEYS, (), where)
    where = f"{where} ({shown(entry['id'])})"
    for key in ("id", "title", "protocol"):
        _text(entry[key], key, where)
    for key in ("benchmark", "profile"):
        if entry[key] is not None:
            _text(entry[key], key, where)
    counts = _object(entry["counts"], COUNT_KEYS, (), f"{where}, counts")
    for key, count in counts.items():
        _count(count, key, where)
    source = _object(entry["source"], SOURCE_KEYS, (), f"{where}, source")
    for key in ("paper", "arxiv"):
        _text(source[key], f"source.{key}", where)
    unverified = _list(entry["unverified"], "unverified", where)
    for text in unverified:
        _text(text, "unverified", where)
    if source["table"] is not None:
        _text(source["table"], "source.table", where)
    elif not unverified:
        raise UserError(f"{where}: source.table is not known; 'unverified' must say so.")
    if not isinstance(entry["columns"], dict) or not entry["columns"]:
        raise UserError(f"{where}: 'columns' must be an object with one column or more.")
    columns = {}
    for key, column in entry["columns"].items():
        if not isinstance(key, str) or key in (*ROW_KEYS, *OPTIONAL, "source"):
            raise UserError(f"{where}: no column may be called {shown(key)}.")
        columns[key] = _column(column, f"{where}, column {shown(key)}")
    rows = [
        _row(row, columns, source, f"{where}, row {number}")
        for number, row in enumerate(_list(entry["rows"], "rows", where), 1)
    ]
    first = next(iter(columns))
    sign = -1 if columns[first]["higher_is_better"] else 1
    rows.sort(key=lambda row: (first not in row, sign * row.get(first, 0.0), row["method"]))
    return Quoted(
        entry["id"], entry["title"], " ".join(entry["protocol"].split()), columns, rows, source,
        entry["benchmark"], entry["profile"], counts, unverified,
    )  # fmt: skip


def _column(column: Any, where: str) -> dict[str, Any]:
    column = _object(column, COLUMN_KEYS, (), where)
    _text(column["name"], "name", where)
    _text(column["unit"], "unit", where)
    if column["unit"] not in LIMITS:
        raise UserError(f"{where}: {unknown('unit', column['unit'], LIMITS)}")
    if not isinstance(column["higher_is_better"], bool):
        given = shown(column["higher_is_better"])
        raise UserError(f"{where}: higher_is_better is {given}; allowed: true, false.")
    return column


def _row(row: Any, columns: Mapping[str, Any], source: Mapping[str, Any], where: str) -> dict[str, Any]:
    row = _object(row, ROW_KEYS, (*columns, *OPTIONAL), where)
    where = f"{where} ({shown(row['method'])})"
    for key in ROW_KEYS:
        _text(row[key], key, where)
    _count(row.get("references", 0), "references", where)
    deviation = _object(row.get("deviation", {}), (), tuple(columns), f"{where}, deviation")
    for key, column in columns.items():
        low, high = LIMITS[column["unit"]]
        for value in (entry[key] for entry in (row, deviation) if key in entry):
            if not foreign.is_number(value, low, high):
                raise UserError(
                    f"{where}: {key} is {shown(value)}; allowed: a number from {low:g} to {high:g} "
                    f"({column['unit']})."
                )
    if not any(key in row for key in columns):
        raise UserError(f"{where} has no number; allowed: {', '.join(columns)}.")
    table = f", {source['table']}" if source["table"] else ""
    by = "" if row["measured_by"] == source["paper"] else f", as measured by {row['measured_by']}"
    return {**row, "source": f"{source['paper']} (arXiv {source['arxiv']}){table}{by}"}


def _object(entry: Any, needed: Iterable[str], optional: Iterable[str], where: str) -> dict[str, Any]:
    needed = tuple(needed)
    if not isinstance(entry, dict):
        raise UserError(f"{where} is a {type(entry).__name__}; it must be an object.")
    for key in needed:
        if key not in entry:
            raise UserError(f"{where} lacks '{key}'; quoted numbers say what, whose and where from.")
    for key in entry:
        if key not in (*needed, *optional):
            raise UserError(f"{where}: {unknown('key', str(key), (*needed, *optional))}")
    return dict(entry)


def _text(value: Any, key: str, where: str) -> None:
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{where}: {key} is {shown(value)}; it must be text.")


def _count(value: Any, key: str, where: str) -> None:
    if not foreign.is_count(value, 0):
        raise UserError(f"{where}: {key} is {shown(value)}; allowed: a whole number from 0.")


def _list(value: Any, key: str, where: str) -> list[Any]:
    if not isinstance(value, list) or (key == "rows" and not value):
        raise UserError(f"{where}: '{key}' must be a list{' with one row or more' * (key == 'rows')}.")
    return value
