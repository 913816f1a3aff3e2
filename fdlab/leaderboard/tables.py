"""What a board is: tables of rows with cells, and published numbers beside them.

Every output, from the terminal to the page, prints this one structure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fdlab.leaderboard.collect import Entry
from fdlab.leaderboard.marks import Mark
from fdlab.leaderboard.published import Quoted
from fdlab.metrics import registry
from fdlab.records.comparability import described


@dataclass(frozen=True)
class Cell:
    """A metric's value for one row."""

    value: float
    low: float | None
    high: float | None
    num: int
    spread: float | None = None
    """Standard deviation over seeds; None of one."""


@dataclass
class Row:
    """One method: one record, or those of its seeds and repeats."""

    entries: list[Entry]
    label: str
    cells: dict[str, Cell]
    num_seeds: int
    marks: list[Mark]
    rank: tuple[int, int] | None = None
    """Its best and its worst possible rank."""
    is_open: bool = False
    """Whether rows that are not ranked, for there are too many, may stand as high."""
    unranked: str = ""
    """Why it has none, empty where it has."""
    on_front: bool = False

    @property
    def entry(self) -> Entry:
        """The record that stands for all."""
        return self.entries[0]

    @property
    def record(self) -> Mapping[str, Any]:
        return self.entry.record

    @property
    def competes(self) -> bool:
        """Whether nothing about it forbids a rank."""
        return not any(mark.unranks for mark in self.marks)

    @property
    def rank_text(self) -> str:
        """1, 1-3 where several cannot be told apart, 1-100+ where more may be; empty without a rank."""
        if self.rank is None:
            return ""
        low, high = self.rank
        more = "+" if self.is_open else ""
        return f"{low}" if low == high and not more else f"{low}-{high}{more}"


@dataclass
class Table:
    """Rows whose numbers may be compared."""

    number: int
    benchmark: Mapping[str, Any]
    ordered_by: str
    """Empty where nothing orders."""
    rows: list[Row]
    apart: str = ""
    """Why its records are not in an earlier table, empty for the first."""
    axes: tuple[str, str] | None = None
    """Identity and prompt consistency, the metrics that the Pareto front is of."""
    quoted: list[Quoted] = field(default_factory=list)
    """Published numbers of the same protocol."""

    @property
    def title(self) -> str:
        return described(self.benchmark)

    @property
    def metrics(self) -> list[str]:
        """Every metric that a row has, those of the short table first."""
        return [name for name in registry.whole() if any(name in row.cells for row in self.rows)]

    @property
    def short(self) -> list[str]:
        """The same where room is scarce: those of the short table and the one that orders, or all."""
        names = [name for name in registry.short() if name in self.metrics] or self.metrics
        return names if self.ordered_by in ("", *names) else [*names, self.ordered_by]


@dataclass
class Board:
    """All tables, and published numbers that stand beside none of them."""

    tables: list[Table]
    quoted: list[Quoted]

    @property
    def has_ranks(self) -> bool:
        return any(row.rank is not None for table in self.tables for row in table.rows)
