"""Squared maximum mean discrepancy between two sets of features, unbiased (the diagonals are left out).

Gretton et al. (2012), lemma 6. `kernel_distance` uses KID's cubic kernel (Binkowski et al. 2018, arXiv
1801.01401), `cmmd` the Gaussian kernel on normalised CLIP features (Jayasumana et al. 2024, arXiv 2401.09603,
there biased). Both may be slightly negative. The whole sets are used, no random subsets. N, M images, D
features; float64.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fdlab.metrics import clusters
from fdlab.metrics.bootstrap import Estimate
from fdlab.metrics.metric import LARGEST, Measurements, Metric

CMMD_SIGMA = 10.0
CMMD_SCALE = 1000.0


def kernel_distance(a_ND: np.ndarray, b_MD: np.ndarray) -> float:
    """KID's estimator with the kernel `(x y / D + 1)^3`; called KID only with the 2015 Inception's
    features."""
    width = np.shape(a_ND)[1]
    return unbiased_mmd(a_ND, b_MD, lambda x, y: (x @ y.T / width + 1.0) ** 3)


def cmmd(a_ND: np.ndarray, b_MD: np.ndarray) -> float:
    """CMMD, unbiased: Gaussian kernel of width 10 on features normalised to length 1, times 1000."""

    def gaussian(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        squared = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T
        return np.asarray(np.exp(-np.maximum(squared, 0.0) / (2 * CMMD_SIGMA**2)))

    return CMMD_SCALE * unbiased_mmd(_unit(a_ND), _unit(b_MD), gaussian)


def unbiased_mmd(
    a_ND: np.ndarray, b_MD: np.ndarray, kernel: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> float:
    """`mean_{i != j} k(a_i, a_j) + mean_{i != j} k(b_i, b_j) - 2 mean k(a_i, b_j)`; ValueError under two
    images."""
    a, b = np.asarray(a_ND, np.float64), np.asarray(b_MD, np.float64)
    if min(len(a), len(b)) < 2:
        raise ValueError("a kernel distance needs two images or more on each side")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("features are not finite")
    return float(_within(kernel(a, a)) + _within(kernel(b, b)) - 2 * kernel(a, b).mean())


def _within(gram: np.ndarray) -> float:
    num = len(gram)
    return float((gram.sum() - np.trace(gram)) / (num * (num - 1)))


def _unit(features: np.ndarray) -> np.ndarray:
    features = np.asarray(features, np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def _kernel(seen: Measurements) -> Estimate | None:
    return clusters.distance(kernel_distance, seen.features_ND, seen.real["features"], seen.clusters_NK)


def _cmmd(seen: Measurements) -> Estimate | None:
    return clusters.distance(cmmd, seen.clip_ND, seen.real["clip"], seen.clusters_NK)


METRICS = (
    Metric(
        "kernel_distance", "kernel distance", "distance", False, _kernel, ("features", "true pictures"),
        "distance to the true pictures by a cubic kernel, unbiased",
        range=(-LARGEST, LARGEST), place=15, recorded=15,
    ),
    Metric(
        # Of vectors of length 1 the kernel lies in [exp(-4 / 200), 1]: the sum is within 39.7 of 0.
        "cmmd", "CMMD", "distance", False, _cmmd, ("clip", "true pictures"),
        "distance to the true pictures by a Gaussian kernel on CLIP's features, unbiased",
        range=(-40.0, 40.0), place=16, recorded=16, rank=6,
    ),
)  # fmt: skip
