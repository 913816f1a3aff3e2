"""Two methods on the same pictures: the difference's interval from whole subjects, drawn for both at once.

What is hard about a subject or a prompt is hard for both methods and cancels, so a paired interval is
narrower than the gap between two single ones suggests. N pairs, K clusters a pair (see `clusters`).
"""

from __future__ import annotations

import numpy as np

from fdlab.metrics import bootstrap, clusters, identity
from fdlab.metrics.bootstrap import REPLICATES, Estimate
from fdlab.metrics.matching import Matches


def difference(
    a_N: np.ndarray, b_N: np.ndarray, clusters_NK: np.ndarray, seed: int = 0, replicates: int = REPLICATES
) -> Estimate | None:
    """Mean of b - a over the pairs of which both are finite; None without any."""
    return clusters.mean(_both(a_N, b_N), clusters_NK, seed, replicates)


def superiority(
    a_N: np.ndarray,
    b_N: np.ndarray,
    clusters_NK: np.ndarray,
    higher_is_better: bool,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> Estimate | None:
    """Share of pairs in which b is better, a tie counting half; None without a pair of finite values."""
    gain = _both(a_N, b_N) * (1 if higher_is_better else -1)
    won = np.where(np.isfinite(gain), (np.sign(gain) + 1) / 2, np.nan)
    return clusters.mean(won, clusters_NK, seed, replicates)


def auc_difference(a: Matches, b: Matches, clusters_NK: np.ndarray, seed: int = 0) -> Estimate | None:
    """AUC of b minus that of a, the same replicates for both; None where one has no AUC.

    Both must have been asked for the same subjects.
    """
    weights = clusters.auc_weights(a.group_NM, clusters_NK, seed)
    group_N = np.repeat(weights.group_N, a.group_NM.shape[1])
    values, drawn = [], []
    for side in (a, b):
        won, played = identity.auc_table(*side.flat(), group_N)
        if not played.sum():
            return None
        values.append(float(won.sum() / played.sum()))
        drawn.append(identity.auc_replicates(won, played, weights.subjects_RS, weights.groups_RG))
    change_R = drawn[1] - drawn[0]
    return bootstrap.statistic(values[1] - values[0], change_R, weights.num_clusters, len(a.group_NM))


def _both(a_N: np.ndarray, b_N: np.ndarray) -> np.ndarray:
    a, b = np.asarray(a_N, np.float64), np.asarray(b_N, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"pairs are needed, not {a.shape} and {b.shape}")
    return b - a
