"""What a record's single pictures say of its metrics: values and joint bootstrap replicates.

Replicates of every method on one benchmark hold the same subjects, so a difference of two is paired.
N pictures, K clusters a picture, C clusters, R replicates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fdlab.errors import UserError
from fdlab.leaderboard.collect import Entry
from fdlab.metrics import bootstrap, clusters, identity
from fdlab.metrics.registry import METRICS
from fdlab.records.per_sample import Refuted, ScoredPictures, load

AUC = "identity_auc"
SEED = 0


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

    @classmethod
    def read(cls, entry: Entry) -> Evidence:
        """Of the record at `entry.path`."""
        if entry.record["provenance"]["kind"] != "measured":
            return cls(entry, problem="quoted")
        try:
            scored = load(entry.path, entry.record)
        except Refuted as error:
            return cls(entry, problem=str(error), refuted="as many pictures or the same values are not there")
        except UserError as error:
            return cls(entry, problem=str(error))
        against = [f"{METRICS[name].label}: {why}" for name, why in scored.contradictions.items()]
        return cls(entry, scored, refuted="; ".join(against))

    def of(self, name: str) -> Drawn | None:
        """A metric's value and replicates; None where single pictures do not give the record's."""
        if name not in self._drawn:
            self._drawn[name] = None if self.scored is None else drawn(self.scored, name)
        return self._drawn[name]


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
