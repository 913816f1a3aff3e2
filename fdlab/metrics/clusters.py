"""Intervals where pictures share subjects: what is drawn at random, and how often a picture then counts.

With one subject a picture, or where nobody is in two groups, the groups are drawn, as `bootstrap` does. Where
groups share subjects (all pairs), pictures of (a, b) and (a, c) agree by what is hard about a, and groups are
not independent: subjects are drawn, and a picture counts the product of how often each of its subjects was.
That is the product-weight bootstrap of Owen and Eckles (2012, arXiv 1106.2125). In simulation its 95 %
intervals hold the truth in 94 % of cases with 12 subjects, 92 % with 8 and 81 % with 4, where groups taken
for independent do in 46, 54 and 68 %.
Distances leave one subject out at a time, with every picture that shows it.

N pictures, K clusters a picture (1, or as many as subjects), R replicates, C clusters, G different rows of K.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from fdlab.metrics import bootstrap
from fdlab.metrics.bootstrap import REPLICATES, Estimate

_FEWEST = 2
"""Pictures of which a distance can be computed."""
_FEWEST_IN_ALL = 3
"""Pictures, on both sides, of which one is reported."""


def clusters(group_NM: np.ndarray) -> np.ndarray:
    """clusters_NK of pictures of the subjects group_NM: groups, or subjects where groups share any."""
    groups_GM, index_N = np.unique(group_NM, axis=0, return_inverse=True)
    if len(np.unique(groups_GM)) == groups_GM.size:
        return index_N.reshape(-1, 1)
    return group_NM


def product_weights(weights_RC: np.ndarray, clusters_GK: np.ndarray) -> np.ndarray:
    """How often each replicate holds each group: weights_RG, the product over its clusters."""
    return np.asarray(weights_RC[:, clusters_GK].prod(axis=2))


def mean(
    values_N: np.ndarray, clusters_NK: np.ndarray, seed: int, replicates: int = REPLICATES
) -> Estimate | None:
    """Mean over pictures with its interval; NaN is left out. None if nothing is left."""
    if clusters_NK.shape[1] == 1:
        return bootstrap.mean(values_N, clusters_NK[:, 0], seed, replicates)
    values = np.asarray(values_N, np.float64)
    kept = np.isfinite(values)
    if not kept.any():
        return None
    values = values[kept]
    names, index = np.unique(clusters_NK[kept], return_inverse=True)
    groups_GK, group_N = np.unique(index.reshape(len(values), -1), axis=0, return_inverse=True)
    if len(groups_GK) < 2:
        return Estimate(float(values.mean()), None, None, len(values))
    group_N = group_N.reshape(-1)
    sums, counts = np.bincount(group_N, weights=values), np.bincount(group_N)
    weights_RG = product_weights(bootstrap.cluster_weights(len(names), seed, replicates), groups_GK)
    held_R = weights_RG @ counts
    drawn_R = np.where(held_R > 0, (weights_RG @ sums) / np.maximum(held_R, 1), np.nan)
    low, high = bootstrap.percentile_interval(drawn_R, len(names)) or (None, None)
    return Estimate(float(values.mean()), low, high, len(values))


def jackknife(compute: Callable[[np.ndarray], float], clusters_NK: np.ndarray) -> Estimate | None:
    """A statistic of the whole set with `bootstrap.jackknife`'s interval: one cluster left out at a time, and
    with it every picture that has it."""
    names = np.unique(clusters_NK)

    def kept(names_C: np.ndarray) -> np.ndarray:
        return np.flatnonzero(np.isin(clusters_NK, names_C).all(axis=1))

    num = len(clusters_NK)
    if min(len(kept(names[names != name])) for name in names) < _FEWEST:
        value = compute(np.arange(num))
        return Estimate(float(value), None, None, num) if np.isfinite(value) else None
    estimate = bootstrap.jackknife(lambda rows: compute(kept(names[rows])), np.arange(len(names)))
    return None if estimate is None else replace(estimate, num=num)


def distance(
    between: Callable[[np.ndarray, np.ndarray], float],
    ours_ND: np.ndarray | None,
    true_RD: np.ndarray,
    clusters_NK: np.ndarray,
) -> Estimate | None:
    """A distance to the true pictures with its jackknife interval; None of too few pictures."""
    if ours_ND is None or min(len(ours_ND), len(true_RD)) < _FEWEST_IN_ALL:
        return None
    return jackknife(lambda kept: between(ours_ND[kept], true_RD), clusters_NK)


@dataclass(frozen=True)
class AucWeights:
    """What `identity.auc_table` and `auc_replicates` need to know of clusters."""

    group_N: np.ndarray
    """Which group a picture shows, counted from 0."""
    groups_RG: np.ndarray
    subjects_RS: np.ndarray
    num_clusters: int


def auc_weights(group_NM: np.ndarray, clusters_NK: np.ndarray, seed: int) -> AucWeights:
    """How often each replicate holds each group of pictures and each subject of the gallery. Every subject
    must be in a group."""
    clusters_GK, group_N = np.unique(clusters_NK, axis=0, return_inverse=True)
    num_clusters = int(clusters_NK.max()) + 1
    weights_RC = bootstrap.cluster_weights(num_clusters, seed)
    cluster_S = np.zeros(int(group_NM.max()) + 1, int)
    cluster_S[group_NM] = clusters_NK
    return AucWeights(
        group_N.reshape(-1), product_weights(weights_RC, clusters_GK), weights_RC[:, cluster_S], num_clusters
    )
