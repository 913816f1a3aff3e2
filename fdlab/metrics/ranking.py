"""Which of many methods are surely better than which, and the ranks that this leaves open.

All pairs are judged at once: whatever the truth, at most 5 % of boards put any pair in the wrong order. Every
paired difference is divided by its standard error over joint bootstrap replicates and set against Student's
distribution with S - 1 degrees of freedom; Holm's step-down (1979, Scand. J. Statist. 6) takes account of
their number. In simulation (`tests/unit/metrics/test_ranking.py`) this holds from 6 subjects on, where max-T
of the same replicates is wrong on up to 17 % of boards of 6 subjects and 10 % of 12.

M methods, R replicates.
"""

from __future__ import annotations

import numpy as np
from scipy import special

LEVEL = 0.05
"""Share of boards on which any pair may be in the wrong order."""
_EXACT = 1e-7
"""A standard error below this is rounding: two methods differ by the same for every subject, or not at all.
Then no more is known than that all subjects agree, which chance does for one pair in 2^(S - 1)."""


def surely_better(values_M: np.ndarray, drawn_MR: np.ndarray, num_clusters: int) -> np.ndarray:
    """better_MM: whether the row's method surely has the larger value than the column's.

    `drawn_MR` are bootstrap replicates of every method's value, a replicate of the same subjects for all;
    `num_clusters` is how many were drawn. Under two, nothing is sure.
    """
    num = len(values_M)
    if num_clusters < 2 or num < 2:
        return np.zeros((num, num), bool)
    values_M = np.asarray(values_M, np.float64)
    change_MM = values_M[:, None] - values_M[None]
    upper = np.triu_indices(num, 1)
    chance_P = _chances(change_MM[upper], _errors(drawn_MR, num_clusters)[upper], num_clusters)
    sure_MM = np.zeros((num, num), bool)
    sure_MM[upper] = holm(chance_P)
    return np.asarray((sure_MM | sure_MM.T) & (change_MM > 0))


def holm(chance_P: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """Which of several hypotheses fall, by their p-values, so that any true one does with chance `level` at
    most."""
    chance_P = np.asarray(chance_P, np.float64)
    order = np.argsort(chance_P, kind="stable")
    passes = chance_P[order] <= level / (len(chance_P) - np.arange(len(chance_P)))
    fallen_P = np.zeros(len(chance_P), bool)
    fallen_P[order[: len(passes) if passes.all() else int(passes.argmin())]] = True
    return fallen_P


def adjusted(chance_P: np.ndarray) -> np.ndarray:
    """p-values corrected for their number by Holm: those at most `LEVEL` are the ones that `holm` lets
    fall."""
    chance_P = np.asarray(chance_P, np.float64)
    order = np.argsort(chance_P, kind="stable")
    stepped = np.maximum.accumulate(chance_P[order] * (len(chance_P) - np.arange(len(chance_P))))
    made_P = np.empty(len(chance_P))
    made_P[order] = np.minimum(stepped, 1.0)
    return made_P


def chance(change: float, drawn_R: np.ndarray, num_clusters: int) -> float | None:
    """The two-sided p-value of one difference by its bootstrap replicates; None under two clusters."""
    if num_clusters < 2:
        return None
    drawn_R = drawn_R[np.isfinite(drawn_R)]
    error = drawn_R.std() * np.sqrt(num_clusters / (num_clusters - 1))
    return float(_chances(np.array([change]), np.array([error]), num_clusters)[0])


def ranges(better_MM: np.ndarray) -> list[tuple[int, int]]:
    """Each method's best and worst rank: one more than are surely better, and all but those that are surely
    worse."""
    num = len(better_MM)
    above, below = better_MM.sum(axis=0), better_MM.sum(axis=1)
    return [(1 + int(a), num - int(b)) for a, b in zip(above, below, strict=True)]


def _errors(drawn_MR: np.ndarray, num_clusters: int) -> np.ndarray:
    """Standard errors of all paired differences; a bootstrap's is too small by S - 1 of S."""
    centred_MR = np.asarray(drawn_MR, np.float64)
    centred_MR = centred_MR - centred_MR.mean(axis=1, keepdims=True)
    shared_MM = centred_MR @ centred_MR.T / centred_MR.shape[1]
    own_M = shared_MM.diagonal()
    variance_MM = own_M[:, None] + own_M[None] - 2 * shared_MM
    return np.sqrt(np.maximum(variance_MM, 0.0) * num_clusters / (num_clusters - 1))


def _chances(change_P: np.ndarray, error_P: np.ndarray, num_clusters: int) -> np.ndarray:
    exact_P = error_P < _EXACT
    size_P = np.abs(change_P) / np.where(exact_P, 1.0, error_P)
    chance_P = 2 * special.stdtr(num_clusters - 1, -size_P)
    agreeing = 2.0 ** (1 - num_clusters)
    return np.where(exact_P, np.where(np.abs(change_P) < _EXACT, 1.0, agreeing), chance_P)
