"""Makes the board: comparable tables with pooled seeds, ranks with ties, marks and the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fdlab.leaderboard import labels, marks, pooling, quoted_records
from fdlab.leaderboard.collect import Entry, Group
from fdlab.leaderboard.evidence import Look, Reader, mean_of
from fdlab.leaderboard.published import Quoted
from fdlab.leaderboard.ranks import examine, ranked
from fdlab.leaderboard.tables import Board, Cell, Row, Table
from fdlab.leaderboard.usual import Usual
from fdlab.metrics import bootstrap, registry
from fdlab.metrics.registry import METRICS


def make(groups: Sequence[Group], quoted: Sequence[Quoted] = (), look: Look | None = None) -> Board:
    """The board of groups that `collect.group` made. `look` gives a record's single pictures; None reads
    them. Records that say they are quoted stand with published numbers."""
    look = look or Reader()
    parts = [quoted_records.split(group) for group in groups]
    measured = [group for group, _ in parts if group.entries]
    told = {id(group): found for group, found in parts if found is not None}
    tables = []
    for number, group in enumerate(measured, 1):
        beside = [told.pop(id(group))] if id(group) in told else []
        beside += [entry for entry in quoted if entry.follows(group.benchmark)]
        tables.append(_table(number, group, _apart(group, measured[: number - 1]), beside, look))
    placed = {entry.id for table in tables for entry in table.quoted}
    return Board(tables, [*told.values(), *(entry for entry in quoted if entry.id not in placed)])


def _table(number: int, group: Group, apart: str, quoted: list[Quoted], look: Look) -> Table:
    pools = pooling.pooled(group.entries, lambda entry: look(entry).against is None)
    people = marks.people_of(entry.record for entry in group.entries)
    found = [_row(pool, label, people, look) for pool, label in zip(pools, labels.labels(pools), strict=True)]
    rows = _ordered(found, group.ordered_by)
    usual = ranked(rows, group.ordered_by, look, group.benchmark)
    _examine_leaders(rows, look, usual)
    axes = _axes(rows)
    while axes is not None:
        _mark_front(rows, axes)
        # Who is struck off made room for others.
        if not any(examine(row, look, usual) for row in rows if row.on_front):
            break
    # Whom pictures speak against stands below those whom they bear out.
    rows = _ordered(rows, group.ordered_by)
    return Table(number, group.benchmark, group.ordered_by, rows, apart, axes, quoted)


def _row(pool: list[Entry], label: str, people: Sequence[Any], look: Look) -> Row:
    seeds = pooling.seeds_of(pool)
    firsts = [repeats[0] for repeats in seeds]
    names = [name for name in METRICS if all(name in entry.record["metrics"] for entry in firsts)]
    if len(firsts) == 1:
        metrics = firsts[0].record["metrics"]
        cells = {name: _single(metrics[name]) for name in names}
    else:
        cells = {name: _pooled(name, firsts, look) for name in names}
    said = {mark: None for entry in firsts for mark in marks.of(entry.record, people)}
    return Row(pool, label, cells, len(firsts), list(said))


def _single(entry: Mapping[str, Any]) -> Cell:
    return Cell(entry["value"], entry["ci_low"], entry["ci_high"], entry["n"])


def _pooled(name: str, firsts: Sequence[Entry], look: Look) -> Cell:
    """The mean over seeds; its interval is that of the mean over other subjects, where pictures give it."""
    values = [entry.record["metrics"][name]["value"] for entry in firsts]
    num = sum(entry.record["metrics"][name]["n"] for entry in firsts)
    low = high = None
    drawn = mean_of([look(entry).of(name) for entry in firsts])
    if drawn is not None:
        low, high = bootstrap.percentile_interval(drawn.replicates_R, drawn.num_clusters) or (None, None)
    return Cell(float(np.mean(values)), low, high, num, float(np.std(values, ddof=1)))


def _ordered(rows: list[Row], by: str) -> list[Row]:
    """Best first; then rows that cannot compete (but for ceilings, which stand where a method would), then
    those without the metric."""
    sign = -1 if by and METRICS[by].higher_is_better else 1

    def key(row: Row) -> tuple[bool, bool, float, str]:
        cell = row.cells.get(by)
        last = any(mark.unranks and mark.word != marks.CEILING for mark in row.marks)
        return (cell is None, last, 0.0 if cell is None else sign * cell.value, str(row.entry.path))

    return sorted(rows, key=key)


def _apart(group: Group, earlier: Sequence[Group]) -> str:
    """Why a group's records do not stand in an earlier table: the one that it is most like."""
    if not earlier:
        return ""

    def likeness(other: Group) -> tuple[bool, bool]:
        first, second = group.benchmark, other.benchmark
        return (first["sha256"] == second["sha256"], first["name"] == second["name"])

    nearest = max(earlier, key=likeness)
    number = earlier.index(nearest) + 1
    return f"not in table {number}: {nearest.basis.differing(group.basis)}"


def leading(rows: Sequence[Row], name: str) -> tuple[set[int], set[int]]:
    """The rows (by id) that lead a column, and those that come second, among those that compete."""
    cells = [(row.cells[name].value, id(row)) for row in rows if row.competes and name in row.cells]
    if len(cells) < 2:
        return set(), set()  # nobody leads alone
    shown = {key: round(number, METRICS[name].decimals) for number, key in cells}
    order = sorted(set(shown.values()), reverse=METRICS[name].higher_is_better)
    first, second = (
        {key for key, number in shown.items() if number == place} for place in (*order, None, None)[:2]
    )
    return first, second


def _examine_leaders(rows: Sequence[Row], look: Look, usual: Usual) -> None:
    """Look at the pictures of rows that lead in anything: ranks asked only for those of the best rows."""
    for name in METRICS:
        while True:
            first, second = leading(rows, name)
            if not any(examine(row, look, usual) for row in rows if id(row) in first | second):
                break


def _axes(rows: Sequence[Row]) -> tuple[str, str] | None:
    """Identity and prompt consistency: of what tables are ordered by, the first that faces and the first that
    pictures' contents are judged by."""
    names = [name for name in registry.ranked() if METRICS[name].higher_is_better]
    measured = [name for name in names if any(name in row.cells for row in rows)]
    identity = [name for name in measured if METRICS[name].by == "faces"]
    prompt = [name for name in measured if METRICS[name].by in ("clip", "judge")]
    return (identity[0], prompt[0]) if identity and prompt else None


def _mark_front(rows: Sequence[Row], axes: tuple[str, str]) -> None:
    """Mark the rows that no other is better than in one and at least as good as in the other."""
    for row in rows:
        row.on_front = False
    racing = [row for row in rows if row.competes and all(name in row.cells for name in axes)]
    if len(racing) < 2:
        return
    points = [tuple(row.cells[name].value for name in axes) for row in racing]
    for row, point in zip(racing, points, strict=True):
        row.on_front = not any(
            other != point and all(theirs >= own for theirs, own in zip(other, point, strict=True))
            for other in points
        )
