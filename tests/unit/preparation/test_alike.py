"""Duplicates, who is who, and who is held out."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from PIL import Image, ImageFilter

from fdlab.preparation.identities import corrected, grouped
from fdlab.preparation.likeness import duplicates, look_of
from fdlab.preparation.split import held_out
from tests.worlds import album


def recoded(image_HW3: np.ndarray, side: int, quality: int, brighter: float = 1.0) -> np.ndarray:
    stream = io.BytesIO()
    image = Image.fromarray(image_HW3).resize((side, side), Image.Resampling.BICUBIC)
    image.point(lambda value: value * brighter).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def test_smaller_and_recoded_copies_look_alike_and_others_do_not() -> None:
    grounds = [Image.fromarray(album.picture(n, [n % 5])) for n in range(20)]
    # As photos are: with no edge sharper than a pixel.
    pictures = [np.asarray(ground.filter(ImageFilter.GaussianBlur(3))) for ground in grounds]
    copies = [recoded(image, 84, 80) for image in pictures] + [recoded(i, 96, 90, 1.1) for i in pictures]
    found = duplicates([look_of(image) for image in (*pictures, *copies)], 40)
    assert found == [None] * 20 + list(range(20)) * 2
    # Of a chain, only what is kept has duplicates.
    looks = ["00" * 32, "00" * 31 + "0f", "00" * 31 + "ff"]
    assert duplicates(looks, 4) == [None, 0, None]
    assert duplicates([], 4) == []


def slowly(embedding_ND: np.ndarray, pictures: list[int], threshold: float) -> set[frozenset[int]]:
    """Average linkage, pair by pair, from its definition."""
    unit = embedding_ND / np.linalg.norm(embedding_ND, axis=1, keepdims=True)
    cosine = unit @ unit.T
    groups = [frozenset([n]) for n in range(len(unit))]

    def likeness(a: frozenset[int], b: frozenset[int]) -> float:
        if {pictures[n] for n in a} & {pictures[n] for n in b}:
            return -9.0
        return float(np.mean([cosine[i, j] for i in a for j in b]))

    while len(groups) > 1:
        a, b = max(itertools.combinations(groups, 2), key=lambda pair: likeness(*pair))
        if likeness(a, b) < threshold:
            break
        groups = [group for group in groups if group not in (a, b)] + [a | b]
    return set(groups)


@pytest.mark.parametrize("seed", range(4))
def test_groups_are_those_of_average_linkage(seed: int) -> None:
    rng = np.random.default_rng(seed)
    people = rng.normal(size=(6, 8))
    embedding_ND = people[rng.integers(0, 6, 30)] + rng.normal(scale=0.6, size=(30, 8))
    pictures = [n // 2 for n in range(30)]
    labels = grouped(embedding_ND, pictures, 0.5)
    made = {frozenset(n for n, label in enumerate(labels) if label == one) for one in labels}
    assert made == slowly(embedding_ND, pictures, 0.5)
    assert list(dict.fromkeys(labels)) == list(range(max(labels) + 1))
    assert all(labels[n] != labels[n + 1] for n in range(0, 30, 2))


def test_names_given_by_hand_count() -> None:
    assert grouped(np.zeros((0, 4)), [], 0.5) == []
    # 0 and 2 are merged; 3 is split from 1.
    assert corrected([0, 1, 2, 1, 0], {0: "ann", 2: "ann", 4: "ann", 3: "new"}) == [0, 1, 0, 2, 0]


def test_nobody_held_out_is_in_training() -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.choice(60, rng.integers(1, 3), replace=False).tolist() for _ in range(80)]
    held = held_out(pictures, 0.2, 0)
    assert 0 < len(held) <= 16 and held == held_out(pictures, 0.2, 0) != held_out(pictures, 0.2, 1)
    test = {person for n in held for person in pictures[n]}
    assert not test & {person for n in range(80) if n not in held for person in pictures[n]}
    assert held_out(pictures, 0, 0) == set() and held_out([], 0.5, 0) == set()
    # Who is in every picture cannot be held out.
    assert held_out([[0, n] for n in range(1, 9)], 0.5, 0) == set()
