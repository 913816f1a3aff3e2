"""Ranks with ties: methods that paired differences cannot tell apart share a range of ranks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fdlab.leaderboard import marks
from fdlab.leaderboard.collect import Entry
from fdlab.leaderboard.evidence import Drawn, Evidence, mean_of
from fdlab.leaderboard.pooling import seeds_of
from fdlab.metrics import ranking
from fdlab.metrics.registry import METRICS

if TYPE_CHECKING:
    from fdlab.leaderboard.board import Row

MOST = 100
"""Rows of a table that are ranked, the best by value: every one costs the reading of its pictures."""

NOTE = (
    "Ranks: methods share one where their paired differences (the same subjects, prompts and seeds; subjects "
    f"resampled, {1 - ranking.LEVEL:.0%} sure over all pairs together, Holm) cannot tell them apart."
)


def ranked(rows: Sequence[Row], by: str, look: Callable[[Entry], Evidence]) -> None:
    """Give ranks to the rows (best first) that may have one, and say of the others why they have none."""
    racing: list[tuple[Row, Drawn, tuple[str, ...]]] = []
    for row in rows:
        if len(racing) < MOST:
            refute(row, look)
        row.unranked = next((mark.word for mark in row.marks if mark.unranks), "")
        if row.unranked:
            continue
        if by not in row.cells:
            row.unranked = f"no {METRICS[by].label}" if by else "nothing to order by"
        elif len(racing) >= MOST:
            row.unranked = f"below the {MOST} best"
        else:
            found = _drawn(row, by, look)
            if isinstance(found, str):
                row.unranked = found
            else:
                racing.append((row, *found))
    _rank(racing, METRICS[by].higher_is_better if by else True)


def refute(row: Row, look: Callable[[Entry], Evidence]) -> bool:
    """Mark a row one of whose records is contradicted by its own pictures; returns whether it is one."""
    if any(mark.word == marks.REFUTED for mark in row.marks):
        return True
    seen = [look(repeats[0]) for repeats in seeds_of(row.entries)]
    found = [each for each in seen if each.refuted]
    if found:
        which = f"{found[0].entry.run}, one of {len(seen)} seeds: " if len(seen) > 1 else ""
        row.marks.append(marks.refuted(f"{which}{found[0].refuted}"))
        row.rank, row.unranked = None, marks.REFUTED
    return bool(found)


def _drawn(row: Row, by: str, look: Callable[[Entry], Evidence]) -> tuple[Drawn, tuple[str, ...]] | str:
    seen = [look(repeats[0]) for repeats in seeds_of(row.entries)]
    if any(each.scored is None for each in seen):
        return "no scores of single pictures"
    drawn = mean_of([each.of(by) for each in seen])
    if drawn is None:
        return f"single pictures do not give its {METRICS[by].label}"
    if drawn.num_clusters < 2:
        return "one subject alone"
    assert seen[0].scored is not None
    return drawn, tuple(sorted(seen[0].scored.ids))


def _rank(racing: Sequence[tuple[Row, Drawn, tuple[str, ...]]], higher_is_better: bool) -> None:
    """Only methods that drew the same pictures can be paired: those of most rows are."""
    if not racing:
        return
    usual = Counter(ids for _, _, ids in racing).most_common(1)[0][0]
    paired = []
    for row, drawn, ids in racing:
        if ids == usual:
            paired.append((row, drawn))
        else:
            row.unranked = "other pictures than the others'"
    sign = 1 if higher_is_better else -1
    values_M = sign * np.array([drawn.value for _, drawn in paired])
    drawn_MR = sign * np.array([drawn.replicates_R for _, drawn in paired])
    # A replicate in which anybody's metric cannot be computed is nobody's.
    finite_R = np.isfinite(drawn_MR).all(axis=0)
    if finite_R.sum() < max(2, drawn_MR.shape[1] / 2):
        for row, _ in paired:
            row.unranked = "too few subjects"
        return
    drawn_MR = drawn_MR[:, finite_R]
    better_MM = ranking.surely_better(values_M, drawn_MR, paired[0][1].num_clusters)
    for (row, _), found in zip(paired, ranking.ranges(better_MM), strict=True):
        row.rank = found
