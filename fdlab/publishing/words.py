"""What every output says in the same words: cells, marks, and the notes below a table."""

from __future__ import annotations

from collections.abc import Sequence

from fdlab.leaderboard import board, ranks
from fdlab.leaderboard.tables import Cell, Row, Table
from fdlab.metrics.registry import METRICS
from fdlab.records import table as records_table
from fdlab.records.table import ABSENT

SEEDS = (
    "±: standard deviation over seeds; a bracket then is of the mean over seeds, and says how it moves with "
    "other subjects, not with other seeds."
)
FRONT = (
    "◆: on the Pareto front: of the rows that compete, no other is at least as good in both {0} and {1} and "
    "better in one of them. Values count as they were measured, so a difference that is noise counts too."
)


def heading(table: Table) -> str:
    """A table's title and what orders it."""
    by = f", best {METRICS[table.ordered_by].label} first" if table.ordered_by else ""
    return f"{table.number}. {table.title}{by}"


def value(cell: Cell | None, name: str) -> str:
    """A number, with its spread over seeds where there are several."""
    if cell is None:
        return ABSENT
    decimals = METRICS[name].decimals
    spread = "" if cell.spread is None else f" ± {cell.spread:.{decimals}f}"
    return f"{cell.value:.{decimals}f}{spread}"


def interval(cell: Cell | None, name: str) -> str:
    """An interval, empty where there is none."""
    entry = None if cell is None else {"ci_low": cell.low, "ci_high": cell.high}
    return records_table.interval(entry, name)


def rank(row: Row) -> str:
    """Its rank, or a dash."""
    return row.rank_text or ABSENT


def marks(row: Row) -> str:
    """What must be said of a row, in a few words: its place on the front, its marks, why it has no rank."""
    words = ["◆"] * row.on_front + list(dict.fromkeys(mark.word for mark in row.marks))
    return ", ".join([*words, *([row.unranked] if row.unranked and row.unranked not in words else [])])


def notes(table: Table, apart: bool = True) -> list[str]:
    """What a reader has to know of a table's numbers, one text a paragraph; `apart` False leaves out why it
    is a table of its own."""
    records = [entry.record for row in table.rows for entry in row.entries]
    found = [f"Apart: {table.apart}."] if table.apart and apart else []
    found.append(records_table.note(records, taught=False))
    if any(row.rank is not None for row in table.rows):
        found.append(ranks.NOTE)
    if any(row.is_open for row in table.rows):
        found.append(ranks.NOTE_OPEN)
    if any(row.num_seeds > 1 for row in table.rows):
        found.append(SEEDS)
    if table.axes and any(row.on_front for row in table.rows):
        found.append(FRONT.format(*(METRICS[name].label for name in table.axes)))
    return [*found, *_marked(table.rows), *_unranked(table.rows)]


def best(table: Table, name: str) -> tuple[set[int], set[int]]:
    """The rows (by id) that lead a column, and those that come second, among those that compete."""
    return board.leading(table.rows, name)


def _marked(rows: Sequence[Row]) -> list[str]:
    """Every mark in full, with the methods that carry it."""
    carriers: dict[str, list[str]] = {}
    for row in rows:
        for mark in row.marks:
            carriers.setdefault(f"{mark.word} ({mark.text})", []).append(row.label)
    return [f"{said}: {_listed(labels)}." for said, labels in carriers.items()]


def _unranked(rows: Sequence[Row]) -> list[str]:
    """Why rows that nothing is marked against have no rank."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.unranked and row.competes:
            reasons.setdefault(row.unranked, []).append(row.label)
    return [f"not ranked ({why}): {_listed(labels)}." for why, labels in reasons.items()]


def _listed(labels: Sequence[str], most: int = 8) -> str:
    more = f" and {len(labels) - most} more" if len(labels) > most else ""
    return "; ".join(labels[:most]) + more
