"""95 % intervals that respect that images of one subject are not independent: whole subjects are drawn, not
images.

R replicates, S subjects (clusters), N images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special

from fdlab.randomness import numpy_rng

REPLICATES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number, its interval where one can be given, and how many images stand behind it."""

    value: float
    low: float | None
    high: float | None
    num: int


@lru_cache(maxsize=8)
def cluster_weights(num_clusters: int, seed: int, replicates: int = REPLICATES) -> np.ndarray:
    """How often each replicate holds each cluster: weights_RS, rows sum to S. Shared, hence read-only."""
    rng = numpy_rng(seed, "bootstrap", num_clusters)
    weights = rng.multinomial(num_clusters, np.full(num_clusters, 1.0 / num_clusters), size=replicates)
    weights.setflags(write=False)
    return weights


def percentile_interval(replicates_R: np.ndarray, num_clusters: int) -> tuple[float, float] | None:
    """The percentile interval, widened for few clusters; None under two clusters or without finite
    replicates.

    The tail is `Phi(-sqrt(S / (S - 1)) t_{S-1})` in place of 2.5 %: the "expanded percentile" of Hesterberg
    (2015, arXiv 1411.5279, section 5.3), since the plain one is too narrow for tens of clusters.
    """
    finite = replicates_R[np.isfinite(replicates_R)]
    if num_clusters < 2 or finite.size < max(2, len(replicates_R) // 2):
        return None
    quantile = _t(num_clusters - 1) * np.sqrt(num_clusters / (num_clusters - 1))
    tail = float(special.ndtr(-quantile))
    low, high = np.quantile(finite, [tail, 1 - tail])
    return float(low), float(high)


def _t(degrees: int) -> float:
    """Student's quantile of an interval's upper end. scipy.stats has it too, and takes a while to import."""
    return float(special.stdtrit(degrees, (1 + LEVEL) / 2))


def mean(
    values_N: np.ndarray, cluster_N: np.ndarray, seed: int, replicates: int = REPLICATES
) -> Estimate | None:
    """Mean over images with its interval; values that are NaN are left out (and out of `num`). None if none
    is left."""
    values = np.asarray(values_N, np.float64)
    kept = np.isfinite(values)
    if not kept.any():
        return None
    values, clusters = values[kept], np.asarray(cluster_N)[kept]
    names, index = np.unique(clusters, return_inverse=True)
    sums, counts = np.bincount(index, weights=values), np.bincount(index)
    weights = cluster_weights(len(names), seed, replicates)
    interval = percentile_interval((weights @ sums) / (weights @ counts), len(names))
    low, high = interval or (None, None)
    return Estimate(float(values.mean()), low, high, len(values))


def statistic(value: float, replicates_R: np.ndarray, num_clusters: int, num_images: int) -> Estimate | None:
    """An estimate from a value and its replicates (of `cluster_weights`); None for a value that is not
    finite."""
    if not np.isfinite(value):
        return None
    low, high = percentile_interval(replicates_R, num_clusters) or (None, None)
    return Estimate(float(value), low, high, num_images)


def jackknife(
    compute: Callable[[np.ndarray], float], cluster_N: Sequence[int] | np.ndarray
) -> Estimate | None:
    """A statistic of the whole set with an interval from leaving out one cluster at a time.

    For distances between sets: a bootstrap sample repeats images, which biases them; a jackknife sample does
    not. `compute` takes the kept images' indices. Student's t with S - 1 degrees of freedom.
    """
    clusters = np.asarray(cluster_N)
    value = compute(np.arange(len(clusters)))
    if not np.isfinite(value):
        return None
    names = np.unique(clusters)
    num = len(names)
    if num < 3:
        return Estimate(float(value), None, None, len(clusters))
    left_out = np.array([compute(np.flatnonzero(clusters != name)) for name in names])
    error = np.sqrt((num - 1) / num * np.sum((left_out - left_out.mean()) ** 2))
    half = float(_t(num - 1) * error)
    if not np.isfinite(half):
        return Estimate(float(value), None, None, len(clusters))
    return Estimate(float(value), float(value - half), float(value + half), len(clusters))
