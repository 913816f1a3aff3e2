from __future__ import annotations

import numpy as np
import pytest

from fdlab.metrics import bootstrap, identity


def case(seed: int, num_subjects: int = 5, images: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    own = np.repeat(np.arange(num_subjects), images)
    # Rounded, so that ties happen.
    similarity = rng.normal(0, 0.3, (len(own), num_subjects))
    similarity[np.arange(len(own)), own] += 0.3
    return similarity.round(1), own, rng.random(len(own)) > 0.25


def brute_force_auc(similarity: np.ndarray, own: np.ndarray, detected: np.ndarray) -> float:
    won, played = 0.0, 0
    for i in range(len(own)):
        for j in range(len(own)):
            for c in range(similarity.shape[1]):
                if not detected[j] or c == own[j]:
                    continue
                played += 1
                mine, other = similarity[i, own[i]], similarity[j, c]
                won += 0.5 if not detected[i] or mine == other else float(mine > other)
    return won / played


@pytest.mark.parametrize("seed", range(4))
def test_auc_against_brute_force(seed: int) -> None:
    similarity, own, detected = case(seed)
    assert identity.auc(similarity, own, detected) == pytest.approx(
        brute_force_auc(similarity, own, detected), abs=1e-12
    )


def test_auc_replicates_against_repeating_the_rows() -> None:
    similarity, own, detected = case(1, num_subjects=4, images=3)
    weights = bootstrap.cluster_weights(4, seed=3, replicates=20)
    fast = identity.auc_replicates(*identity.auc_table(similarity, own, detected), weights)
    for weight, value in zip(weights, fast, strict=True):
        # Copies of a subject play with the copies' own images, against references of other subjects only.
        picked = np.repeat(np.arange(4), weight)
        rows = np.concatenate([np.flatnonzero(own == s) for s in picked])
        won, played = 0.0, 0
        for i in rows:
            for j in rows:
                for c in picked:
                    if detected[j] and c != own[j]:
                        played += 1
                        mine, other = similarity[i, own[i]], similarity[j, c]
                        won += 0.5 if not detected[i] or mine == other else float(mine > other)
        assert (np.isnan(value) and not played) or value == pytest.approx(won / played)


def test_a_miss_counts_zero_wrong_and_chance() -> None:
    similarity, own = np.eye(3), np.arange(3)
    everyone = np.ones(3, bool)
    assert identity.own_similarity(similarity, own, everyone).tolist() == [1, 1, 1]
    assert identity.auc(similarity, own, everyone) == 1.0
    nobody = np.array([True, False, True])
    assert identity.own_similarity(similarity, own, nobody).tolist() == [1, 0, 1]
    assert identity.rank1(similarity, own, nobody).tolist() == [1, 0, 1]
    assert identity.margin(similarity, own, nobody).tolist() == [1, 0, 1]
    assert identity.auc(similarity, own, nobody) == pytest.approx((2 + 0.5) / 3)
    assert np.isnan(identity.auc(similarity, own, np.zeros(3, bool)))


def test_similarities_are_raw_and_ties_are_not_rank_one() -> None:
    similarity, own = np.array([[-0.5, -0.5], [0.2, 0.1]]), np.array([0, 1])
    detected = np.ones(2, bool)
    assert identity.own_similarity(similarity, own, detected).tolist() == [-0.5, 0.1]
    assert identity.rank1(similarity, own, detected).tolist() == [0, 0]
    assert identity.margin(similarity, own, detected) == pytest.approx([0.0, -0.1])
    with pytest.raises(ValueError, match="two subjects"):
        identity.margin(similarity[:, :1], np.zeros(2, int), detected)


def test_cosine_against_numpy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 4)), rng.normal(size=(5, 4))
    direct = [[x @ y / np.sqrt((x @ x) * (y @ y)) for y in b] for x in a]
    np.testing.assert_allclose(identity.cosine(a, b), direct, atol=1e-12)
    assert identity.cosine(np.zeros((1, 4)), b).tolist() == [[0.0] * 5]


def test_copy_paste_tells_a_copy_from_a_likeness() -> None:
    def at(degrees: float) -> np.ndarray:
        return np.cos(np.deg2rad([degrees]))

    apart = at(40)
    assert identity.copy_paste(at(0), at(40), apart) == pytest.approx(1.0)
    assert identity.copy_paste(at(20), at(20), apart) == pytest.approx(0.0)
    assert identity.copy_paste(at(40), at(0), apart) == pytest.approx(-1.0)
    assert identity.copy_paste(at(30), at(50), apart) == pytest.approx(0.5)
    # Two equal pictures of a person say nothing, and give no infinity.
    assert identity.copy_paste(at(10), at(10), np.ones(1)) == pytest.approx(0.0)


def test_cosines_know_no_length() -> None:
    rng = np.random.default_rng(2)
    a_ND, b_MD = rng.normal(size=(5, 7)), rng.normal(size=(4, 7))
    expected = np.array([[a @ b / np.sqrt(a @ a) / np.sqrt(b @ b) for b in b_MD] for a in a_ND])
    for scale in (1e-6, 1.0, 1e6):
        assert identity.cosine(a_ND * scale, b_MD / scale) == pytest.approx(expected, abs=1e-12)
    assert not identity.cosine(np.zeros((1, 7)), b_MD).any()
