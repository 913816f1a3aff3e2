"""Ranks with ties: methods that paired differences cannot tell apart share a range of ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fdlab.leaderboard.evidence import Drawn, Evidence, Look, mean_of
from fdlab.leaderboard.marks import Mark
from fdlab.leaderboard.pooling import seeds_of
from fdlab.leaderboard.tables import Row
from fdlab.leaderboard.usual import Usual
from fdlab.metrics import ranking
from fdlab.metrics.registry import METRICS

MOST = 100
"""Rows of a table that are ranked, the best by value: every one costs the reading of its pictures."""

BELOW = f"below the {MOST} best"
_KNOWN = 0.9
"""Share of replicates in which a row's metric can be computed, at least: it would take the others' away."""

NOTE = (
    "Ranks: methods share one where their paired differences (the same subjects, prompts and seeds; subjects "
    f"resampled, {1 - ranking.LEVEL:.0%} sure over all pairs together, Holm) cannot tell them apart."
)
NOTE_OPEN = f"+: of the rows below the {MOST} best, which are not ranked, some may stand as high."


def ranked(rows: Sequence[Row], by: str, look: Look, benchmark: Mapping[str, Any]) -> Usual:
    """Give ranks to the rows (best first) that may have one, and say of the others why they have none.

    Returns what is asked of every row.
    """
    racing: list[Row] = []
    for row in rows:
        if len(racing) < MOST:
            examine(row, look)
        row.unranked = next((mark.word for mark in row.marks if mark.unranks), "")
        if row.unranked:
            continue
        if by not in row.cells:
            row.unranked = f"no {METRICS[by].label}" if by else "nothing to order by"
        elif len(racing) >= MOST:
            row.unranked = BELOW
        else:
            racing.append(row)
    usual = Usual.of([look(row.entry) for row in racing], benchmark)
    paired = []
    for row in racing:
        if examine(row, look, usual):
            continue
        found = _drawn(row, by, look)
        if isinstance(found, str):
            row.unranked = found
        else:
            paired.append((row, found))
    _rank(paired, METRICS[by].higher_is_better if by else True)
    if any(row.unranked == BELOW for row in rows):
        last = max((row.rank[1] for row, _ in paired if row.rank), default=0)
        for row, _ in paired:
            row.is_open = row.rank is not None and row.rank[1] == last
    return usual


def examine(row: Row, look: Look, usual: Usual | None = None) -> bool:
    """Mark a row that its pictures do not bear out, or whose pictures are not the `usual` ones; returns
    whether it is one that competes no more."""
    if not row.competes:
        return True
    seen = [look(repeats[0]) for repeats in seeds_of(row.entries)]
    for each in seen:
        found = _against(each, usual)
        if found is not None:
            which = f"{each.entry.run}, one of {len(seen)} seeds: " if len(seen) > 1 else ""
            row.marks.append(Mark(found[0], f"{which}{found[1]}", unranks=True))
            row.rank, row.unranked = None, found[0]
            return True
    return False


def _against(seen: Evidence, usual: Usual | None) -> tuple[str, str] | None:
    """What forbids a record to compete, as a word and in full."""
    return seen.against or (usual.against(seen) if usual is not None else None)


def _drawn(row: Row, by: str, look: Look) -> Drawn | str:
    drawn = mean_of([look(repeats[0]).of(by) for repeats in seeds_of(row.entries)])
    if drawn is None:
        return f"single pictures do not give its {METRICS[by].label}"
    return drawn if drawn.num_clusters > 1 else "one subject alone"


def _rank(paired: Sequence[tuple[Row, Drawn]], higher_is_better: bool) -> None:
    """Ranks of rows that drew the same pictures, and so of the same subjects."""
    if len(paired) < 2:
        for row, _ in paired:
            row.unranked = "nothing to rank against"
        return
    sign = 1 if higher_is_better else -1
    values_M = sign * np.array([drawn.value for _, drawn in paired])
    drawn_MR = sign * np.array([drawn.replicates_R for _, drawn in paired])
    known_MR = np.isfinite(drawn_MR)
    enough_M = known_MR.mean(axis=1) >= _KNOWN
    if not enough_M.all():
        for (row, _), enough in zip(paired, enough_M, strict=True):
            row.unranked = "" if enough else "too few subjects"
        _rank([each for each, enough in zip(paired, enough_M, strict=True) if enough], higher_is_better)
        return
    # A replicate in which anybody's metric cannot be computed is nobody's.
    drawn_MR = drawn_MR[:, known_MR.all(axis=0)]
    if drawn_MR.shape[1] < 2:
        for row, _ in paired:
            row.unranked = "too few subjects"
        return
    better_MM = ranking.surely_better(values_M, drawn_MR, paired[0][1].num_clusters)
    for (row, _), found in zip(paired, ranking.ranges(better_MM), strict=True):
        row.rank = found
