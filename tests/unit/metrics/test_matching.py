from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest

from fdlab.metrics import identity, matching


def best_by_trying(similarity_FM: np.ndarray) -> float:
    """The largest sum over every way to give min(F, M) subjects a face of their own."""
    faces, subjects = similarity_FM.shape
    num = min(faces, subjects)
    return max(
        sum(similarity_FM[f, m] for f, m in zip(some, to, strict=True))
        for some in combinations(range(faces), num)
        for to in permutations(range(subjects), num)
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (2, 2), (3, 2), (2, 3), (4, 4), (5, 3)])
def test_assignment_against_every_permutation(shape: tuple[int, int]) -> None:
    for seed in range(20):
        similarity = np.random.default_rng(seed).uniform(-1, 1, shape)
        face = matching.assign(similarity)
        matched = face != matching.UNMATCHED
        assert matched.sum() == min(shape) == len(set(face[matched]))
        total = similarity[face[matched], np.flatnonzero(matched)].sum()
        assert total == pytest.approx(best_by_trying(similarity), abs=1e-12)


def test_greedy_would_be_worse() -> None:
    # Greedy takes 0.9 first and must then take -0.5.
    assert matching.assign(np.array([[0.9, 0.8], [0.7, -0.5]])).tolist() == [1, 0]
    assert matching.assign(np.zeros((0, 2))).tolist() == [-1, -1]


def people(num: int, seed: int = 0, dim: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num, dim))


def scores(faces: list[np.ndarray], references: np.ndarray, group: list[int]) -> dict[str, float]:
    """Identity, worst subject and blending of one picture."""
    similarity = identity.cosine(np.array(faces).reshape(-1, references.shape[1]), references)
    found = matching.match([similarity], np.array([group]), len(references))
    pairs = found.similarity_NMS[0], np.array(group), found.detected_NM[0]
    own = identity.own_similarity(*pairs)
    return {
        "identity": float(own.mean()),
        "worst": float(own.min()),
        "blending": float(found.blending_N[0]),
        "margin": float(identity.margin(*pairs, found.rivals_NMS[0]).mean()),
        "rank1": float(identity.rank1(*pairs, found.rivals_NMS[0]).mean()),
    }


def test_who_is_in_the_picture_counts_not_where() -> None:
    ref = people(6)
    good = scores([ref[0], ref[1]], ref, [0, 1])
    assert good["identity"] == pytest.approx(1.0) and good["rank1"] == 1.0
    # Two who change places are the same picture of both.
    assert scores([ref[1], ref[0]], ref, [0, 1]) == pytest.approx(good)
    assert scores([ref[0], ref[1]], ref, [1, 0]) == pytest.approx(good)
    # The people of another picture are not: swapping any of them lowers identity and the worst subject.
    half, none = scores([ref[0], ref[3]], ref, [0, 1]), scores([ref[2], ref[3]], ref, [0, 1])
    assert good["identity"] > half["identity"] + 0.3 > none["identity"] + 0.3
    assert half["worst"] < 0.5 < half["identity"] + 0.1 and good["worst"] == pytest.approx(1.0)
    assert (half["rank1"], none["rank1"]) == (0.5, 0.0)


def test_averaged_faces_blend() -> None:
    ref = people(6)
    values = []
    for share in (0.0, 0.25, 0.5):
        faces = [(1 - share) * ref[0] + share * ref[1], (1 - share) * ref[1] + share * ref[0]]
        values.append(scores(faces, ref, [0, 1]))
    assert values[0]["blending"] == pytest.approx(identity.cosine(ref[:1], ref[1:2])[0, 0])
    assert values[0]["blending"] < values[1]["blending"] - 0.1 < values[2]["blending"] - 0.2
    assert values[0]["identity"] > values[1]["identity"] > values[2]["identity"]
    assert values[2]["blending"] == pytest.approx(values[2]["identity"])
    # Strangers are no blend, one person twice is.
    assert scores([ref[2], ref[3]], ref, [0, 1])["blending"] < 0.5
    twice = scores([ref[0], ref[0]], ref, [0, 1])
    assert twice["blending"] == pytest.approx((1 + values[0]["blending"]) / 2)
    assert twice["worst"] == pytest.approx(values[0]["blending"])


def test_misses_count_nothing_but_are_no_blend() -> None:
    ref = people(6)
    one = scores([ref[1]], ref, [0, 1])
    assert one["identity"] == pytest.approx(0.5) and one["worst"] == 0.0 and one["rank1"] == 0.5
    nobody = scores([], ref, [0, 1])
    assert (nobody["identity"], nobody["worst"], nobody["margin"], nobody["rank1"]) == (0, 0, 0, 0)
    assert np.isnan(nobody["blending"])


def test_strangers_are_matched_as_the_subject_was() -> None:
    """Against trying every permutation for every stranger."""
    rng = np.random.default_rng(4)
    group = np.array([3, 0, 5])
    similarity = rng.uniform(-1, 1, (3, 7))
    found = matching.match([similarity], group[None], 7)
    for m in range(3):
        for s in range(7):
            if s in group:
                expected = similarity[found.face_NM[0, m], s]
            else:
                asked = [*group[:m], s, *group[m + 1 :]]
                order = max(
                    permutations(range(3)), key=lambda p: sum(similarity[p[k], asked[k]] for k in range(3))
                )
                expected = similarity[order[m], s]
            assert found.similarity_NMS[0, m, s] == expected
    assert found.rivals_NMS[0].tolist() == [[s not in group for s in range(7)]] * 3


def test_ignoring_references_is_chance() -> None:
    """Matching favours whoever is asked for; not matching strangers alike makes chance look like skill."""
    num, size, subjects = 800, 2, 8
    rng = np.random.default_rng(0)
    similarities = list(rng.normal(size=(num, size, subjects)))
    group = np.array([rng.choice(subjects, size, replace=False) for _ in range(num)])
    found = matching.match(similarities, group, subjects)
    own, detected = group.ravel(), found.detected_NM.ravel()
    rivals = found.rivals_NMS.reshape(-1, subjects)
    fair = found.similarity_NMS.reshape(-1, subjects)
    assert identity.auc(fair, own, detected, rivals) == pytest.approx(0.5, abs=0.02)
    assert identity.rank1(fair, own, detected, rivals).mean() == pytest.approx(1 / 7, abs=0.03)
    assert abs(identity.margin(fair, own, detected, rivals).mean()) < 0.05
    naive = np.concatenate([s[f] for s, f in zip(similarities, found.face_NM, strict=True)])
    assert identity.auc(naive, own, detected, rivals) > 0.58


def test_one_subject_is_compared_with_everybody() -> None:
    rng = np.random.default_rng(1)
    similarity, own = rng.normal(size=(9, 4)), rng.integers(0, 4, 9)
    detected = rng.random(9) > 0.3
    faces = [row[None] if found else row[None][:0] for row, found in zip(similarity, detected, strict=True)]
    found = matching.match(faces, own[:, None], 4)
    given = similarity, own, detected
    made = found.similarity_NMS[:, 0], own, found.detected_NM[:, 0]
    assert np.array_equal(found.detected_NM[:, 0], detected) and np.isnan(found.blending_N).all()
    for function in (identity.own_similarity, identity.margin, identity.rank1):
        assert np.array_equal(function(*given), function(*made))
    assert np.array_equal(identity.margin(*given), identity.margin(*made, found.rivals_NMS[:, 0]))
    assert identity.auc(*given) == identity.auc(*made) == identity.auc(*made, found.rivals_NMS[:, 0])


def test_some_pictures_of_matches_are_as_if_matched_alone() -> None:
    rng = np.random.default_rng(4)
    similarities = [rng.uniform(-1, 1, (int(num), 4)) for num in (2, 0, 3, 1, 2)]
    group_NM = np.array([[0, 1], [1, 2], [2, 3], [3, 0], [1, 3]])
    whole = matching.match(similarities, group_NM, 4)
    for kept in (np.array([3, 0]), np.array([True, False, True, True, False])):
        picked = [similarities[n] for n in np.arange(5)[kept]]
        alone = matching.match(picked, group_NM[kept], 4)
        for a, b in zip(whole.take(kept).flat(), alone.flat(), strict=True):
            assert np.array_equal(a, b, equal_nan=a.dtype == float)
        assert np.array_equal(whole.take(kept).blending_N, alone.blending_N, equal_nan=True)
