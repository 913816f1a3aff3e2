from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from fdlab.metrics import bootstrap, clusters, identity


def test_what_is_drawn() -> None:
    alone = np.repeat([4, 0, 2], 2)[:, None]
    assert clusters.clusters(alone).ravel().tolist() == [2, 2, 0, 0, 1, 1]
    apart = np.array([[0, 1], [2, 3], [0, 1]])
    assert clusters.clusters(apart).ravel().tolist() == [0, 1, 0]
    shared = np.array([[0, 1], [0, 2]])
    assert clusters.clusters(shared).tolist() == shared.tolist()


def pairs(seed: int, subjects: int = 12, images: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Values with mean 0 of all pairs: what a subject adds is the same in all of its pairs."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(size=subjects)
    group = np.repeat(np.array(list(combinations(range(subjects), 2))), images, axis=0)
    pair = np.repeat(rng.normal(size=len(group) // images), images)
    return hard[group].sum(axis=1) + 0.5 * pair + 0.5 * rng.normal(size=len(group)), group


def test_coverage_by_simulation() -> None:
    hits = naive = 0
    for seed in range(300):
        values, group = pairs(seed)
        estimate = clusters.mean(values, clusters.clusters(group), seed, replicates=400)
        assert estimate and estimate.low is not None and estimate.high is not None
        hits += estimate.low <= 0 <= estimate.high
        as_groups = bootstrap.mean(values, group @ [100, 1], seed, replicates=400)
        assert as_groups and as_groups.low is not None and as_groups.high is not None
        naive += as_groups.low <= 0 <= as_groups.high
    assert 0.92 <= hits / 300 <= 0.99
    # What drawing subjects is for: pairs that share one, taken for independent, are wrong half of the time.
    assert naive / 300 < 0.75


def test_a_replicate_is_the_mean_of_repeated_pictures() -> None:
    values, group = pairs(1, subjects=5, images=2)
    weights = bootstrap.cluster_weights(5, 3, 50)
    held = clusters.product_weights(weights, group)
    for weight_S, weight_N in zip(weights, held, strict=True):
        assert weight_N.tolist() == [weight_S[a] * weight_S[b] for a, b in group]
    drawn = [np.repeat(values, times).mean() for times in held if times.any()]
    estimate = clusters.mean(values, group, 3, replicates=50)
    expected = bootstrap.percentile_interval(np.array(drawn), 5)
    assert estimate and expected and (estimate.low, estimate.high) == pytest.approx(expected)
    assert estimate.value == pytest.approx(values.mean()) and estimate.num == len(values)


def test_one_cluster_a_picture_is_the_plain_bootstrap() -> None:
    rng = np.random.default_rng(0)
    values, cluster = rng.normal(size=30), np.repeat(np.arange(6), 5)
    values[3] = np.nan
    assert clusters.mean(values, cluster[:, None], 1) == bootstrap.mean(values, cluster, 1)
    kept = np.nan_to_num(values)
    assert clusters.jackknife(lambda k: float(kept[k].mean()), cluster[:, None]) == bootstrap.jackknife(
        lambda k: float(kept[k].mean()), cluster
    )


def test_jackknife_leaves_out_every_picture_of_a_subject() -> None:
    values, group = pairs(2, subjects=6, images=1)
    estimate = clusters.jackknife(lambda kept: float(values[kept].mean()), group)
    left_out = np.array([values[(group != s).all(axis=1)].mean() for s in range(6)])
    half = 2.570582 * np.sqrt(5 / 6 * ((left_out - left_out.mean()) ** 2).sum())
    assert estimate and estimate.num == 15 and estimate.high is not None
    assert estimate.high - estimate.value == pytest.approx(half, rel=1e-6)


def test_too_little_has_no_interval() -> None:
    pair = np.array([[0, 1]] * 4)
    one = clusters.mean(np.arange(4.0), clusters.clusters(pair), 0)
    assert one == bootstrap.Estimate(1.5, None, None, 4)
    # What is left after missing values shows one pair only.
    left = clusters.mean(np.array([1.0, 2.0, np.nan]), np.array([[0, 1], [0, 1], [0, 2]]), 0)
    assert left == bootstrap.Estimate(1.5, None, None, 2)
    assert clusters.mean(np.full(4, np.nan), np.array([[0, 1], [0, 2]] * 2), 0) is None
    triangle = np.array([[0, 1], [0, 2], [1, 2]])
    assert clusters.jackknife(lambda kept: float(len(kept)), triangle) == bootstrap.Estimate(
        3.0, None, None, 3
    )
    assert clusters.jackknife(lambda kept: float("nan"), triangle) is None


def test_auc_replicates_of_pairs_against_repeating_the_pictures() -> None:
    rng = np.random.default_rng(0)
    num_subjects = 4
    group = np.array(list(combinations(range(num_subjects), 2)))
    own = group.ravel()
    rivals = np.repeat(np.array([[s not in g for s in range(num_subjects)] for g in group]), 2, axis=0)
    similarity, detected = rng.normal(size=(len(own), num_subjects)).round(1), rng.random(len(own)) > 0.2
    weights = clusters.auc_weights(group, clusters.clusters(group), seed=3)
    table = identity.auc_table(similarity, own, detected, rivals, np.repeat(weights.group_N, 2))
    fast = identity.auc_replicates(*table, weights.subjects_RS[:25], weights.groups_RG[:25])
    for times, value in zip(weights.subjects_RS[:25], fast, strict=True):
        rows = [r for r in range(len(own)) for _ in range(int(times[group[r // 2]].prod()))]
        won, played = 0.0, 0
        for i in rows:
            for j in rows:
                for c in np.repeat(np.arange(num_subjects), times):
                    if detected[j] and rivals[j, c]:
                        played += 1
                        mine, other = similarity[i, own[i]], similarity[j, c]
                        won += 0.5 if not detected[i] or mine == other else float(mine > other)
        assert (np.isnan(value) and not played) or value == pytest.approx(won / played)


def test_a_distance_needs_three_pictures_on_both_sides() -> None:
    features_ND = np.arange(8.0).reshape(4, 2) ** 2
    clusters_NK = np.arange(4)[:, None]

    def between(ours: np.ndarray, true: np.ndarray) -> float:
        return float(ours.mean() - true.mean())

    found = clusters.distance(between, features_ND, features_ND[:3], clusters_NK)
    assert found and found.num == 4 and found.value == features_ND.mean() - features_ND[:3].mean()
    assert clusters.distance(between, features_ND, features_ND[:2], clusters_NK) is None
    assert clusters.distance(between, features_ND[:2], features_ND, clusters_NK[:2]) is None
    assert clusters.distance(between, None, features_ND, clusters_NK) is None
