"""Two records of one benchmark, picture by picture: which method is better, by how much, and how surely.

A difference is B - A. Its interval resamples subjects, for both records at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fdlab.errors import UserError
from fdlab.leaderboard import evidence
from fdlab.leaderboard.collect import Entry, relative
from fdlab.metrics import identity, paired, ranking
from fdlab.metrics.bootstrap import Estimate
from fdlab.metrics.registry import METRICS
from fdlab.records.per_sample import ScoredPictures, load
from fdlab.records.record import RECORD, read

AUC = "identity_auc"


@dataclass(frozen=True)
class Line:
    """One metric on the pictures that have it in both records."""

    metric: str
    a: float
    b: float
    difference: Estimate
    superiority: Estimate | None
    """Share of pairs in which B is better, ties half; None where a metric has no value a picture."""
    num_subjects: int
    chance: float | None = None
    """p-value of no difference, over subjects; None where there are too few."""

    @property
    def better(self) -> str:
        """A or B where the interval leaves out 0, else empty."""
        low, high = self.difference.low, self.difference.high
        if low is None or high is None or low <= 0 <= high:
            return ""
        return "B" if (low > 0) == METRICS[self.metric].higher_is_better else "A"


@dataclass(frozen=True)
class Comparison:
    """Two records and what tells them apart."""

    a: Entry
    b: Entry
    num_pictures: int
    num_subjects: int
    lines: list[Line]
    left_out: dict[str, str]
    """Metric that both have -> why it is not compared."""

    @property
    def corrected(self) -> dict[str, float]:
        """Metric -> p-value corrected for the number of metrics (Holm)."""
        known = {line.metric: line.chance for line in self.lines if line.chance is not None}
        values = ranking.adjusted(np.array(list(known.values())))
        return dict(zip(known, values.tolist(), strict=True))

    @property
    def better(self) -> dict[str, str]:
        """Metric -> A or B where one is better for sure: corrected for the number of metrics too; else
        empty."""
        corrected = self.corrected
        return {
            line.metric: line.better if corrected.get(line.metric, 1.0) < ranking.LEVEL else ""
            for line in self.lines
        }


def locate(given: Path) -> Entry:
    """The record that a user means: a record file, its folder, a run, or a folder with one record.

    UserError where there is none, or several.
    """
    for path in (given, given / RECORD, given / "evaluation" / RECORD):
        if path.is_file():
            return Entry(relative(path.resolve()), read(path))
    if not given.exists():
        raise UserError(f"no record '{given}'; give a record.json, or the folder of a run.")
    found = sorted(given.rglob(RECORD)) if given.is_dir() else []
    if len(found) != 1:
        first = f", such as '{found[0]}' and '{found[1]}'; name one" if found else ""
        raise UserError(f"'{given}' holds {len(found) or 'no'} records{first}.")
    return Entry(relative(found[0].resolve()), read(found[0]))


def compare(a: Entry, b: Entry, seed: int = 0) -> Comparison:
    """Compare two records and their pictures. UserError where they may not be compared, in one line."""
    for entry in (a, b):
        if entry.record["provenance"]["kind"] != "measured":
            raise UserError(f"record '{entry.path}' is quoted; only measured pictures can be paired.")
    problem = a.basis.differing(b.basis)
    if problem:
        raise UserError(f"'{a.path}' and '{b.path}' cannot be compared; {problem}.")
    first, second = load(a.path, a.record), load(b.path, b.record)
    second = _in_order(second, first, a, b)
    lines, left_out = [], {}
    for name in METRICS:
        if name not in a.record["metrics"] or name not in b.record["metrics"]:
            continue
        line = _auc(first, second, seed) if name == AUC else _line(name, first, second, seed)
        if line is None:
            reasons = (side.left_out.get(name) for side in (first, second))
            left_out[name] = next((reason for reason in reasons if reason), "no picture has it in both")
        else:
            lines.append(line)
    return Comparison(a, b, len(first.pictures), len(first.subjects), lines, left_out)


def _in_order(scored: ScoredPictures, like: ScoredPictures, a: Entry, b: Entry) -> ScoredPictures:
    """B's pictures in A's order. UserError unless both hold the same ones: a missing one must not go
    unseen."""
    place = {name: i for i, name in enumerate(scored.ids)}
    for names, others, lacking in ((like.ids, place, b), (scored.ids, set(like.ids), a)):
        missing = [name for name in names if name not in others]
        if missing:
            raise UserError(f"'{lacking.path}' lacks picture '{missing[0]}' ({len(missing)} in all).")
    order = np.array([place[name] for name in like.ids])
    matches = scored.matches
    if matches is not None:
        # Columns are subjects; they agree only where both records name these in one order.
        matches = matches.take(order) if scored.subjects == like.subjects else None
    pictures = [scored.pictures[i] for i in order]
    values = {name: values_N[order] for name, values_N in scored.values.items()}
    return replace(scored, pictures=pictures, values=values, matches=matches)


def _line(name: str, a: ScoredPictures, b: ScoredPictures, seed: int) -> Line | None:
    if name not in a.values or name not in b.values:
        return None
    first, second = a.values[name], b.values[name]
    difference = paired.difference(first, second, a.clusters_NK, seed)
    if difference is None:
        return None
    both = np.isfinite(first) & np.isfinite(second)
    won = paired.superiority(first, second, a.clusters_NK, METRICS[name].higher_is_better, seed)
    num_subjects = len(np.unique(a.group_NM[both]))
    found = evidence.mean(second - first, a.clusters_NK, seed)
    assert found is not None  # as the difference has pairs
    chance = ranking.chance(found.value, found.replicates_R, found.num_clusters)
    means = float(first[both].mean()), float(second[both].mean())
    return Line(name, *means, difference, won, num_subjects, chance)


def _auc(a: ScoredPictures, b: ScoredPictures, seed: int) -> Line | None:
    if a.matches is None or b.matches is None:
        return None
    difference = paired.auc_difference(a.matches, b.matches, a.clusters_NK, seed)
    if difference is None:
        return None
    first, second = (identity.auc(*side.flat()) for side in (a.matches, b.matches))
    drawn_a, drawn_b = (evidence.drawn(side, AUC, seed) for side in (a, b))
    assert drawn_a is not None and drawn_b is not None
    change_R = drawn_b.replicates_R - drawn_a.replicates_R
    chance = ranking.chance(second - first, change_R, drawn_a.num_clusters)
    return Line(AUC, first, second, difference, None, len(a.subjects), chance)


def as_dict(made: Comparison) -> dict[str, Any]:
    """A comparison as plain JSON."""
    return {
        "schema_version": 1,
        "kind": "paired comparison",
        "difference": "B - A",
        "resampled": "subjects",
        "benchmark": made.a.record["benchmark"],
        "a": {"path": str(made.a.path), "run": made.a.run, "method": made.a.record["method"]},
        "b": {"path": str(made.b.path), "run": made.b.run, "method": made.b.record["method"]},
        "metrics": {
            line.metric: {
                "a": line.a,
                "b": line.b,
                "difference": _estimate(line.difference),
                "superiority": line.superiority and _estimate(line.superiority),
                "n": line.difference.num,
                "num_subjects": line.num_subjects,
                "higher_is_better": METRICS[line.metric].higher_is_better,
                "better": made.better[line.metric] or None,
                "p": line.chance,
                "p_corrected": made.corrected.get(line.metric),
            }
            for line in made.lines
        },
        "left_out": made.left_out,
    }


def _estimate(estimate: Estimate) -> dict[str, float | None]:
    return {"value": estimate.value, "ci_low": estimate.low, "ci_high": estimate.high}
