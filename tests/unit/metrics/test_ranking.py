"""Ranks on simulated boards whose true order and ties are known."""

from __future__ import annotations

import numpy as np
import pytest

from fdlab.metrics import bootstrap, ranking

BOARDS = 200


def board(rng: np.random.Generator, truth_M: np.ndarray, subjects: int, prompts: int) -> np.ndarray:
    """values_MSP: what is hard about a subject and a prompt is so for all methods, and each has subjects that
    suit it."""
    shape = (len(truth_M), subjects, prompts)
    hard = rng.normal(0, 0.12, (1, subjects, 1)) + rng.normal(0, 0.05, (1, 1, prompts))
    return truth_M[:, None, None] + hard + rng.normal(0, 0.06, (*shape[:2], 1)) + rng.normal(0, 0.15, shape)


def judged(values_MSP: np.ndarray) -> np.ndarray:
    subjects = values_MSP.shape[1]
    drawn_MR = (bootstrap.cluster_weights(subjects, 0) @ values_MSP.mean(axis=2).T / subjects).T
    return ranking.surely_better(values_MSP.mean(axis=(1, 2)), drawn_MR, subjects)


@pytest.mark.parametrize(("methods", "subjects"), [(9, 40), (12, 12), (9, 6)])
@pytest.mark.parametrize("binary", [False, True])
def test_few_boards_have_a_wrong_order(methods: int, subjects: int, binary: bool) -> None:
    """Groups of three are alike and 0.08 apart. On 200 boards at most 5 % put any pair in the wrong order."""
    rng = np.random.default_rng(11)
    truth_M = 0.4 + 0.08 * (np.arange(methods) // 3)
    truly_MM = truth_M[:, None] > truth_M[None]
    wrong, found = 0, 0.0
    for _ in range(BOARDS):
        values = board(rng, truth_M, subjects, 4)
        better_MM = judged((values > 0.5).astype(float) if binary else values)
        wrong += bool((better_MM & ~truly_MM).any())
        found += (better_MM & truly_MM).sum() / truly_MM.sum() / BOARDS
    assert wrong <= 0.05 * BOARDS
    # It is not careful by never saying anything.
    assert found > (0.25 if subjects == 40 else 0.0)


@pytest.mark.parametrize("subjects", [40, 8])
def test_where_all_are_alike_few_boards_name_anybody(subjects: int) -> None:
    """The hardest case: 5 % is the rate aimed at, so 200 boards may show a little more (99 % of binomial)."""
    rng = np.random.default_rng(5)
    named = sum(bool(judged(board(rng, np.full(8, 0.5), subjects, 4)).any()) for _ in range(BOARDS))
    assert named <= 17


def test_ranks_are_ranges_where_ties_are() -> None:
    better_MM = np.zeros((4, 4), bool)
    better_MM[:3, 3] = True
    better_MM[0, 2] = True
    assert ranking.ranges(better_MM) == [(1, 2), (1, 3), (2, 3), (4, 4)]
    assert ranking.ranges(np.zeros((1, 1), bool)) == [(1, 1)]


def test_clear_differences_are_seen_and_small_samples_say_nothing() -> None:
    values = board(np.random.default_rng(0), np.array([0.9, 0.5, 0.1]), 20, 4)
    assert ranking.ranges(judged(values)) == [(1, 1), (2, 2), (3, 3)]
    assert not judged(values[:, :1]).any()
    # Two subjects agree by chance every second time; forty do not.
    constant = np.array([1.0, 0.0])[:, None, None] * np.ones((2, 40, 1))
    assert not judged(constant[:, :2]).any() and judged(constant)[0, 1]
    assert not judged(np.ones((2, 40, 1))).any()


def test_holm_steps_down() -> None:
    # By hand: 0.012 <= 0.05/4, 0.016 <= 0.05/3, 0.03 > 0.05/2, so nothing after that.
    assert ranking.holm(np.array([0.03, 0.012, 0.04, 0.016])).tolist() == [False, True, False, True]
    assert ranking.holm(np.array([])).tolist() == [] and ranking.holm(np.array([0.01])).all()


def test_the_chance_is_students() -> None:
    from scipy import stats

    rng = np.random.default_rng(3)
    apart_S = rng.normal(0.1, 0.3, 15)
    drawn_R = bootstrap.cluster_weights(15, 0, 20_000) @ apart_S / 15
    wanted = stats.ttest_1samp(apart_S, 0.0).pvalue
    assert ranking.chance(float(apart_S.mean()), drawn_R, 15) == pytest.approx(wanted, rel=0.05)
    assert ranking.chance(0.1, drawn_R, 1) is None
