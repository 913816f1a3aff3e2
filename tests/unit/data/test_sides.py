"""Captions of mirrored pictures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdlab.data.sides import mirrored

SWAPPED = [
    ("a woman on the left and a man on the right", "a woman on the right and a man on the left"),
    ("A man holds a cup in his left hand.", "A man holds a cup in his right hand."),
    ("Left: a woman. RIGHT: a man.", "Right: a woman. LEFT: a man."),
    ("a man looking right", "a man looking left"),
    ("the leftmost man, facing rightwards", "the rightmost man, facing leftwards"),
    ("a right-handed man left of a tree", "a left-handed man right of a tree"),
    ("Ada's left eye", "Ada's right eye"),
    ("a tree to the right in front of a house", "a tree to the left in front of a house"),
    ("a man with a raised left arm", "a man with a raised right arm"),
    ("in the upper left corner", "in the upper right corner"),
    ("a dog is left of her", "a dog is right of her"),
]
KEPT = [
    "a man right behind a woman",
    "a woman looking right at the camera",
    "a man who has left the room",
    "a cup left behind on a table",
    "leftovers on a bright plate, all right",
    "a man standing right next to a car",
    "the right place, at the right time",
    "he left a note",
    "a copyright mark and a man's rights",
]


@pytest.mark.parametrize(("caption", "expected"), SWAPPED)
def test_sides_change_places(caption: str, expected: str) -> None:
    assert mirrored(caption, [])[0] == expected
    assert mirrored(expected, [])[0] == caption


@pytest.mark.parametrize("caption", KEPT)
def test_what_is_no_side_stays(caption: str) -> None:
    assert mirrored(caption, [3]) == (caption, [3])


@given(st.lists(st.sampled_from(["left", "right", "the", "man", "Right", "of", ", ", "x"]), max_size=12))
def test_the_nouns_ends_move_with_them(words: list[str]) -> None:
    """Each noun is marked by what stands before its end, whatever stands before that."""
    caption = " ".join(words)
    ends = [end for end in range(1, len(caption) + 1) if caption[:end].endswith(("man", "x"))]
    text, moved = mirrored(caption, ends)
    for end, new in zip(ends, moved, strict=True):
        assert text[:new].endswith(("man", "x"))
        assert text[:new].count("man") == caption[:end].count("man")
        assert len(text[:new].split()) == len(caption[:end].split())
