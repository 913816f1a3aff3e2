from __future__ import annotations

import numpy as np
import pytest

from fdlab.metrics import bootstrap


def clustered(seed: int, clusters: int = 12, images: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Values with mean 0 that agree within a cluster."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(clusters, 1)) + 0.5 * rng.normal(size=(clusters, images))
    return values.ravel(), np.repeat(np.arange(clusters), images)


def coverage(num: int, together: bool = True, clusters: int = 12) -> float:
    """Share of `num` samples whose interval holds the true mean; `together` False forgets who is whose."""
    hits = 0
    for seed in range(num):
        values, cluster = clustered(seed, clusters)
        if not together:
            cluster = np.arange(len(values))
        # Replicates are drawn once for a seed; fifty sets of them are enough.
        estimate = bootstrap.mean(values, cluster, seed % 50, replicates=400)
        assert estimate and estimate.low is not None and estimate.high is not None
        hits += estimate.low <= 0 <= estimate.high
    return hits / num


@pytest.mark.parametrize("clusters", [10, pytest.param(40, marks=pytest.mark.long)])
def test_coverage_by_simulation(clusters: int) -> None:
    assert 0.93 <= coverage(1500, clusters=clusters) <= 0.97


def test_images_taken_for_independent_are_wrong_half_of_the_time() -> None:
    assert coverage(400, together=False) < 0.8


def test_jackknife_of_a_mean_is_the_standard_error() -> None:
    values, cluster = clustered(1)
    estimate = bootstrap.jackknife(lambda kept: float(values[kept].mean()), cluster)
    assert estimate and estimate.low is not None and estimate.high is not None
    means = values.reshape(12, 5).mean(1)
    half = 2.200985 * means.std(ddof=1) / np.sqrt(12)
    assert estimate.high - estimate.value == pytest.approx(half, rel=1e-5)
    assert estimate.value - estimate.low == pytest.approx(half, rel=1e-5)


def test_same_seed_same_interval_and_order_does_not_matter() -> None:
    values, cluster = clustered(2)
    first = bootstrap.mean(values, cluster, seed=0)
    order = np.random.default_rng(0).permutation(len(values))
    second = bootstrap.mean(values[order], cluster[order], seed=0)
    assert first and second and first.num == second.num == 60
    assert (first.value, first.low, first.high) == pytest.approx((second.value, second.low, second.high))
    assert bootstrap.mean(values, cluster, seed=1) != first


def test_missing_values_are_absent_not_nan() -> None:
    values, cluster = clustered(3)
    values[:5] = np.nan
    estimate = bootstrap.mean(values, cluster, 0)
    assert estimate and estimate.num == 55 and np.isfinite(estimate.value)
    assert bootstrap.mean(np.full(4, np.nan), np.arange(4), 0) is None
    assert bootstrap.statistic(float("nan"), np.zeros(10), 5, 10) is None
    one = bootstrap.mean(np.ones(4), np.zeros(4), 0)
    assert one == bootstrap.Estimate(1.0, None, None, 4)
    assert bootstrap.jackknife(lambda kept: float("nan"), [0, 1, 2]) is None


def test_two_clusters_and_half_of_the_replicates_are_enough() -> None:
    replicates_R = np.arange(10.0)
    assert bootstrap.percentile_interval(replicates_R, 1) is None
    found = bootstrap.percentile_interval(replicates_R, 2)
    assert found is not None and 0 <= found[0] < found[1] <= 9
    half_R = np.where(np.arange(10) < 5, replicates_R, np.nan)
    assert bootstrap.percentile_interval(half_R, 2) is not None
    half_R[0] = np.inf
    assert bootstrap.percentile_interval(half_R, 2) is None
    # Few clusters widen it; many leave the plain percentiles.
    many_R = np.linspace(0, 1, 2001)
    wide, plain = (bootstrap.percentile_interval(many_R, num) for num in (3, 100_000))
    assert wide and plain and wide[0] < 0.01 < 0.99 < wide[1]
    assert plain == pytest.approx((0.025, 0.975), abs=1e-3)


def test_a_jackknife_needs_three_clusters() -> None:
    def mean(kept: np.ndarray) -> float:
        return float(kept.mean())

    two = bootstrap.jackknife(mean, [0, 0, 1])
    assert two == bootstrap.Estimate(1.0, None, None, 3)
    three = bootstrap.jackknife(mean, [0, 1, 2])
    assert three and three.low is not None and three.high is not None and three.low < 1.0 < three.high
    # One that cannot be computed without some cluster has no interval.
    some = bootstrap.jackknife(lambda kept: float("nan") if len(kept) < 3 else 1.0, [0, 1, 2])
    assert some == bootstrap.Estimate(1.0, None, None, 3)
