"""What a record's single pictures say of its metrics: values and joint bootstrap replicates.

Replicates of every method on one benchmark hold the same subjects, so a difference of two is paired.
N pictures, K clusters a picture, C clusters, R replicates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fdlab.errors import UserError
from fdlab.leaderboard import marks
from fdlab.leaderboard.asked import Asked
from fdlab.leaderboard.collect import Entry
from fdlab.metrics import bootstrap, clusters, identity
from fdlab.metrics.registry import METRICS
from fdlab.records.per_sample import Refuted, ScoredPictures, load

AUC = "identity_auc"
SEED = 0
_NOISE = 0.2
"""Share of an interval's width by which its ends may differ: other replicates, which 2,000 are enough for."""
_ROUNDED = 2e-3
"""Scores are kept to six decimals; an interval of a few subjects moves more than a mean."""


@dataclass(frozen=True)
class Drawn:
    """A metric's value and its replicates, NaN where one cannot be computed."""

    value: float
    replicates_R: np.ndarray
    num_clusters: int
    num: int
    """Pictures that have a value."""


@dataclass
class Evidence:
    """One record's pictures, read once; `problem` says why there are none."""

    entry: Entry
    scored: ScoredPictures | None = None
    problem: str = ""
    refuted: str = ""
    """How its own pictures contradict it; empty where they do not."""
    _drawn: dict[str, Drawn | None] = field(default_factory=dict)
    _ordered: ScoredPictures | None = None

    @classmethod
    def read(cls, entry: Entry) -> Evidence:
        """Of the record at `entry.path`."""
        try:
            scored = load(entry.path, entry.record)
        except Refuted as error:
            return cls(entry, problem=str(error), refuted="as many pictures or the same values are not there")
        except UserError as error:
            # Tables are published; where this machine keeps its files is no part of them.
            return cls(entry, problem=str(error).replace(str(entry.path.parent), entry.run).rstrip("."))
        against = [f"{METRICS[name].label}: {why}" for name, why in scored.contradictions.items()]
        return cls(entry, scored, refuted="; ".join(against))

    def of(self, name: str) -> Drawn | None:
        """A metric's value and replicates; None where single pictures do not give the record's."""
        if name not in self._drawn:
            if self.scored is not None and self._ordered is None:
                self._ordered = _by_name(self.scored)
            self._drawn[name] = None if self._ordered is None else drawn(self._ordered, name)
        return self._drawn[name]

    @cached_property
    def asked(self) -> Asked | None:
        """What its pictures were asked to show; None where there are none."""
        return None if self.scored is None else Asked.of(self.scored)

    @cached_property
    def unproven(self) -> list[str]:
        """Metrics of the record that are scores of single pictures, which its pictures do not hold."""
        if self.scored is None:
            return []
        held = {*self.scored.values, *([AUC] if self.scored.matches is not None else [])}
        return [name for name in self.entry.record["metrics"] if _is_of_pictures(name) and name not in held]

    @cached_property
    def against(self) -> tuple[str, str] | None:
        """Why its pictures do not bear the record out, as a word and in full; None where they do."""
        if self.refuted:
            return marks.REFUTED, self.refuted
        if self.scored is None:
            return marks.UNPROVEN, self.problem
        if self.unproven:
            return marks.UNPROVEN, f"none give its {', '.join(METRICS[name].label for name in self.unproven)}"
        return (marks.WIDTHS, "; ".join(self.widths)) if self.widths else None

    @cached_property
    def widths(self) -> list[str]:
        """Which of the record's intervals its pictures do not give, one text each."""
        found = []
        for name, entry in self.entry.record["metrics"].items():
            given = self.of(name)
            if self.scored is None or given is None or entry["ci_low"] is None or entry["ci_high"] is None:
                continue
            drawn_again = interval(self.scored, name, given)
            if not is_interval(entry, drawn_again):
                found.append(f"{METRICS[name].label}: {intervals_differ(entry, drawn_again)}")
        return found


Look = Callable[[Entry], Evidence]


class Reader:
    """Reads the pictures of each record once, when they are first asked for."""

    def __init__(self) -> None:
        self._read: dict[Path, Evidence] = {}

    def __call__(self, entry: Entry) -> Evidence:
        """The evidence of a record."""
        if entry.path not in self._read:
            self._read[entry.path] = Evidence.read(entry)
        return self._read[entry.path]


def drawn(scored: ScoredPictures, name: str, seed: int = SEED) -> Drawn | None:
    """A metric's value and replicates from pictures; None where they do not give it."""
    if name == AUC:
        return _auc(scored, seed)
    return None if name not in scored.values else mean(scored.values[name], scored.clusters_NK, seed)


def interval(scored: ScoredPictures, name: str, given: Drawn) -> tuple[float, float] | None:
    """The interval that pictures give a metric, as an evaluation writes it; None of too few subjects. `given`
    is what `drawn` says of it."""
    if name == AUC or given.num == len(scored.pictures):
        return bootstrap.percentile_interval(given.replicates_R, given.num_clusters)
    # Of a metric that some have no value of, the others alone are resampled.
    found = clusters.mean(scored.values[name], scored.clusters_NK, SEED)
    return None if found is None or found.low is None or found.high is None else (found.low, found.high)


def is_interval(entry: Mapping[str, Any], found: tuple[float, float] | None) -> bool:
    """Whether a record's entry has the interval that its pictures give, up to the noise of replicates."""
    if found is None:
        return False
    off = max(abs(entry["ci_low"] - found[0]), abs(entry["ci_high"] - found[1]))
    return bool(off <= _NOISE * (found[1] - found[0]) + _ROUNDED)


def intervals_differ(entry: Mapping[str, Any], found: tuple[float, float] | None) -> str:
    """A record's interval and that of its pictures."""
    gives = "none" if found is None else f"[{found[0]:.4g}, {found[1]:.4g}]"
    return f"the record says [{entry['ci_low']:.4g}, {entry['ci_high']:.4g}], pictures give {gives}"


def _is_of_pictures(name: str) -> bool:
    """Whether single pictures can hold a metric: not a distance between sets."""
    return METRICS[name].unit != "distance"


def _by_name(scored: ScoredPictures) -> ScoredPictures:
    """The same with subjects in the order of their names, so that a replicate holds the same ones of every
    record, in whatever order its lines stand."""
    order_S = np.array(sorted(range(len(scored.subjects)), key=lambda s: scored.subjects[s]))
    if (order_S[1:] > order_S[:-1]).all():
        return scored
    group_NM, matches = np.argsort(order_S)[scored.group_NM], scored.matches
    if matches is not None:
        matches = replace(matches, group_NM=group_NM, similarity_NMS=matches.similarity_NMS[:, :, order_S])
    subjects = tuple(sorted(scored.subjects))
    clusters_NK = clusters.clusters(group_NM)
    return replace(scored, subjects=subjects, group_NM=group_NM, clusters_NK=clusters_NK, matches=matches)


def mean(values_N: np.ndarray, clusters_NK: np.ndarray, seed: int = SEED) -> Drawn | None:
    """Mean over the pictures that have a value, and its replicates over all clusters; None without any."""
    kept_N = np.isfinite(values_N)
    if not kept_N.any():
        return None
    names, index = np.unique(clusters_NK, return_inverse=True)
    groups_GK, group_N = np.unique(index.reshape(clusters_NK.shape), axis=0, return_inverse=True)
    group_N = group_N.reshape(-1)
    sums = np.bincount(group_N[kept_N], weights=values_N[kept_N], minlength=len(groups_GK))
    counts = np.bincount(group_N[kept_N], minlength=len(groups_GK))
    weights_RG = clusters.product_weights(bootstrap.cluster_weights(len(names), seed), groups_GK)
    held_R = weights_RG @ counts
    value = float(values_N[kept_N].mean())
    # A replicate without any picture that counts says nothing.
    replicates_R = np.where(held_R > 0, (weights_RG @ sums) / np.maximum(held_R, 1), np.nan)
    return Drawn(value, replicates_R, len(names), int(kept_N.sum()))


def mean_of(found: Sequence[Drawn | None]) -> Drawn | None:
    """The mean of several methods' values, replicate by replicate; None where one has none, or another
    number of subjects."""
    known = [each for each in found if each is not None]
    if len(known) < len(found) or len({each.num_clusters for each in known}) != 1:
        return None
    replicates_R = np.mean([each.replicates_R for each in known], axis=0)
    value = float(np.mean([each.value for each in known]))
    return Drawn(value, replicates_R, known[0].num_clusters, known[0].num)


def _auc(scored: ScoredPictures, seed: int) -> Drawn | None:
    found = scored.matches
    if found is None:
        return None
    weights = clusters.auc_weights(found.group_NM, scored.clusters_NK, seed)
    won, played = identity.auc_table(*found.flat(), np.repeat(weights.group_N, found.group_NM.shape[1]))
    if not played.sum():
        return None
    value = float(won.sum() / played.sum())
    drawn_R = identity.auc_replicates(won, played, weights.subjects_RS, weights.groups_RG)
    return Drawn(value, drawn_R, weights.num_clusters, len(found.group_NM))
