"""Frechet distance between two sets of features, as Gaussians: `|m1 - m2|^2 + Tr(C1 + C2 - 2 (C1 C2)^(1/2))`.

Dowson and Landau (1982); as an image metric Heusel et al. (2017, arXiv 1706.08500). The value is called FID
only with the 2015 Inception's features. N, M images, D features. All in float64.
"""

from __future__ import annotations

import numpy as np

from fdlab.metrics import clusters
from fdlab.metrics.bootstrap import Estimate
from fdlab.metrics.metric import Measurements, Metric

INCEPTION = "inception-2015"
"""The only network whose Frechet distance is called FID."""
NUM_FOR_TRUST = 2048
"""Below as many images the covariance is poor and the distance biased upwards."""


def frechet_distance(a_ND: np.ndarray, b_MD: np.ndarray) -> float:
    """Frechet distance of two feature sets; ValueError with fewer than two images on a side or features not
    finite.

    `Tr (C1 C2)^(1/2)` is the nuclear norm of `A B^T` for centred factors `C1 = A^T A`, `C2 = B^T B`: exact
    also where there are fewer images than features, and without the square root of a singular matrix.
    """
    a, b = (_checked(x) for x in (a_ND, b_MD))
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"features of different widths: {a.shape[1]} and {b.shape[1]}")
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    factor_a = (a - mean_a) / np.sqrt(len(a) - 1)
    factor_b = (b - mean_b) / np.sqrt(len(b) - 1)
    if max(len(a), len(b)) > a.shape[1]:
        # More images than features: the (D, D) form is the smaller one.
        return frechet_from_moments(mean_a, factor_a.T @ factor_a, mean_b, factor_b.T @ factor_b)
    cross = np.linalg.svd(factor_a @ factor_b.T, compute_uv=False).sum()
    total = np.sum((mean_a - mean_b) ** 2) + np.sum(factor_a**2) + np.sum(factor_b**2) - 2 * cross
    return float(max(total, 0.0))


def frechet_from_moments(
    mean_a_D: np.ndarray, cov_a_DD: np.ndarray, mean_b_D: np.ndarray, cov_b_DD: np.ndarray
) -> float:
    """Frechet distance from means and covariances, through the eigenvalues of `C1^(1/2) C2 C1^(1/2)`
    (symmetric)."""
    values, vectors = np.linalg.eigh(np.asarray(cov_a_DD, np.float64))
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    middle = root @ np.asarray(cov_b_DD, np.float64) @ root
    eigenvalues = np.linalg.eigvalsh((middle + middle.T) / 2)
    cross = np.sqrt(np.clip(eigenvalues, 0, None)).sum()
    total = np.sum((mean_a_D - mean_b_D) ** 2) + np.trace(cov_a_DD) + np.trace(cov_b_DD) - 2 * cross
    return float(max(total, 0.0))


def _checked(features: np.ndarray) -> np.ndarray:
    features = np.asarray(features, np.float64)
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(
            f"the Frechet distance needs two images or more, got features of shape {features.shape}"
        )
    if not np.isfinite(features).all():
        raise ValueError("features are not finite")
    return features


def _score(seen: Measurements) -> Estimate | None:
    return clusters.distance(frechet_distance, seen.features_ND, seen.real["features"], seen.clusters_NK)


def _is_fid(seen: Measurements) -> bool:
    return seen.measured_by["features"] == INCEPTION


def _caution(num: int) -> str:
    if num >= NUM_FOR_TRUST:
        return ""
    return (
        f"The Frechet distance of {num:,} pictures is biased upwards, the more the fewer they are "
        f"(trust it from {NUM_FOR_TRUST:,}): compare equal numbers only, and read the unbiased kernel "
        "distance and CMMD beside it."
    )


METRICS = (
    Metric(
        "fid", "FID", "distance", False, lambda seen: _score(seen) if _is_fid(seen) else None,
        ("features", "true pictures"), "Frechet distance by the 2015 Inception, and by no other network",
        decimals=2, only_by=INCEPTION, place=13, recorded=14, caution=_caution,
    ),
    Metric(
        "frechet_distance", "Frechet", "distance", False,
        lambda seen: None if _is_fid(seen) else _score(seen), ("features", "true pictures"),
        "distance to the true pictures as Gaussians, by any other network",
        decimals=2, place=14, recorded=14, column=10, rank=5, caution=_caution,
    ),
)  # fmt: skip
