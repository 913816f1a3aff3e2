from __future__ import annotations

import itertools

import numpy as np
import pytest

from fdlab.metrics import bootstrap, clusters, matching, paired
from fdlab.metrics.matching import Matches

SUBJECTS, PROMPTS = 20, 5
GROUP_N1 = np.repeat(np.arange(SUBJECTS), PROMPTS)[:, None]


def world(seed: int, gain: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Two methods on the same pictures; subjects and prompts are hard for both, and the gain differs by
    subject."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(size=(SUBJECTS, 1)) + rng.normal(size=(1, PROMPTS))
    a = hard + 0.3 * rng.normal(size=(SUBJECTS, PROMPTS))
    likes = gain + 0.5 * rng.normal(size=(SUBJECTS, 1))
    b = hard + likes + 0.3 * rng.normal(size=(SUBJECTS, PROMPTS))
    return a.ravel(), b.ravel()


def test_known_differences() -> None:
    a, _ = world(0)
    found = paired.difference(a, a + 0.25, GROUP_N1)
    assert found and found.num == 100
    assert (found.value, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))
    # Half of the subjects gain 1: the interval is that of a mean of SUBJECTS zeros and ones.
    shift = np.repeat(np.arange(SUBJECTS) % 2, PROMPTS)
    found = paired.difference(a, a + shift, GROUP_N1)
    assert found and found.value == pytest.approx(0.5)
    assert found.low is not None and found.high is not None
    half = 2.093 * 0.5130 / np.sqrt(SUBJECTS)  # Student's t, 19 degrees of freedom, sd of ten 0 and ten 1
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.07)


def test_coverage_by_simulation() -> None:
    hits = blind = 0
    for seed in range(1000):
        a, b = world(seed, gain=0.1)
        found = paired.difference(a, b, GROUP_N1, seed=0, replicates=600)
        assert found and found.low is not None and found.high is not None
        hits += found.low <= 0.1 <= found.high
        if seed < 200:
            alone = paired.difference(a, b, np.arange(len(a))[:, None], seed=0, replicates=200)
            assert alone and alone.low is not None and alone.high is not None
            blind += alone.low <= 0.1 <= alone.high
    assert 0.93 <= hits / 1000 <= 0.97
    # What clustering is for: pictures taken for independent would be wrong every third time.
    assert blind / 200 < 0.75


def test_swapping_the_two_changes_signs_and_nothing_else() -> None:
    a, b = world(1, gain=0.2)
    b[3] = np.nan
    forth, back = paired.difference(a, b, GROUP_N1), paired.difference(b, a, GROUP_N1)
    assert forth and back and forth.low is not None and forth.high is not None
    assert (back.value, back.low, back.high) == pytest.approx((-forth.value, -forth.high, -forth.low))
    assert forth.num == back.num == 99
    won, lost = (paired.superiority(*pair, GROUP_N1, True) for pair in ((a, b), (b, a)))
    assert won and lost and won.low is not None and won.high is not None
    assert (lost.value, lost.low, lost.high) == pytest.approx((1 - won.value, 1 - won.high, 1 - won.low))


@pytest.mark.parametrize("higher", [True, False])
def test_superiority_counts_pairs_and_halves_ties(higher: bool) -> None:
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 4, 100).astype(float), rng.integers(0, 4, 100).astype(float)
    a[:7] = np.nan
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if np.isfinite(x)]
    better = sum((y > x if higher else y < x) + (x == y) / 2 for x, y in pairs)
    found = paired.superiority(a, b, GROUP_N1, higher)
    assert found and found.num == 93 and found.value == pytest.approx(better / 93)


def test_paired_is_narrower_than_unpaired() -> None:
    a, b = world(4)
    found = paired.difference(a, b, GROUP_N1)
    alone = [bootstrap.mean(x, GROUP_N1[:, 0], seed) for seed, x in enumerate((a, b))]
    assert found and found.low is not None and found.high is not None
    widths = [e.high - e.low for e in alone if e and e.high is not None and e.low is not None]
    assert len(widths) == 2 and found.high - found.low < 0.7 * np.hypot(*widths)


def test_pairs_must_be_pairs_and_nothing_is_none() -> None:
    with pytest.raises(ValueError, match="pairs are needed"):
        paired.difference(np.zeros(3), np.zeros(4), np.zeros((3, 1), int))
    nothing = np.full(4, np.nan)
    assert paired.difference(nothing, np.ones(4), np.arange(4)[:, None]) is None
    assert paired.superiority(nothing, np.ones(4), np.arange(4)[:, None], True) is None


def faces(strength: float, hard_S: np.ndarray, seed: int, missed: float = 0.1) -> Matches:
    """Similarities of a method whose faces are `strength` like their subject."""
    rng = np.random.default_rng(seed)
    similarities = []
    for (own,) in GROUP_N1:
        similarity = rng.normal(0, 0.1, SUBJECTS)
        similarity[own] += strength + hard_S[own]
        similarities.append(np.zeros((0, SUBJECTS)) if rng.random() < missed else similarity[None])
    return matching.match(similarities, GROUP_N1, SUBJECTS)


def brute_auc(found: Matches) -> float:
    """Every own similarity against every similarity of a face to another subject, one by one."""
    own, other = [], []
    for (subject,), (face,), similarity in zip(
        found.group_NM, found.face_NM, found.similarity_NMS[:, 0], strict=True
    ):
        own.append(None if face == matching.UNMATCHED else similarity[subject])
        other += [] if face == matching.UNMATCHED else [v for s, v in enumerate(similarity) if s != subject]
    won = [0.5 if x is None else float(x > y) + (x == y) / 2 for x, y in itertools.product(own, other)]
    return float(np.mean(won))


def test_auc_difference() -> None:
    hard = np.random.default_rng(0).normal(0, 0.1, SUBJECTS)
    a, b = faces(0.05, hard, 1), faces(0.12, hard, 2)
    clusters_NK = clusters.clusters(GROUP_N1)
    found, back = paired.auc_difference(a, b, clusters_NK), paired.auc_difference(b, a, clusters_NK)
    assert found and back and found.num == 100 and found.low is not None and found.high is not None
    assert found.value == pytest.approx(brute_auc(b) - brute_auc(a), abs=1e-12)
    assert found.low < found.value < found.high
    assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low))
    same = paired.auc_difference(a, a, clusters_NK)
    assert same == bootstrap.Estimate(0.0, 0.0, 0.0, 100)
    nobody = faces(0.1, hard, 3, missed=2.0)
    assert paired.auc_difference(a, nobody, clusters_NK) is None


def test_auc_interval_is_narrower_for_pairs() -> None:
    hard = np.random.default_rng(5).normal(0, 0.15, SUBJECTS)
    # The same faces but for a little noise: nearly all of either AUC's uncertainty is the subjects'.
    a, b = faces(0.05, hard, 1, 0.0), faces(0.08, hard, 1, 0.0)
    clusters_NK = clusters.clusters(GROUP_N1)
    found = paired.auc_difference(a, b, clusters_NK)
    fixed = matching.match(
        [np.where(np.arange(SUBJECTS) == own, 0.5, 0.0)[None] for (own,) in GROUP_N1], GROUP_N1, SUBJECTS
    )
    # Against a method whose AUC is 1 in every replicate, the difference is as unsure as the one AUC.
    alone = [paired.auc_difference(fixed, side, clusters_NK) for side in (a, b)]
    widths = [e.high - e.low for e in (found, *alone) if e and e.high is not None and e.low is not None]
    assert len(widths) == 3 and widths[0] < 0.5 * np.hypot(*widths[1:])
