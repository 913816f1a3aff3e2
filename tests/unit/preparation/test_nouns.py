"""Who a caption names, and whom of a picture that is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fdlab.errors import UserError
from fdlab.people import picture
from fdlab.preparation.matching import marked, matched, template
from fdlab.preparation.nouns import mentions
from fdlab.randomness import numpy_rng

M = "<|image|>"


@pytest.mark.parametrize(
    ("caption", "num", "made"),
    [
        ("a man in red and a woman in a park", 2, "a man * in red and a woman * in a park"),
        ("Two young women at a table", 2, "A young woman * and a young woman * at a table"),
        ("a couple on the beach", 2, "a person * and a person * on the beach"),
        ("a group of people in town", 3, "a person *, a person * and a person * in town"),
        ("an old man with his two daughters", 3, "an old man * with a daughter * and a daughter *"),
        ("Portrait of smiling women", 2, "Portrait of a smiling woman * and a smiling woman *"),
        ("the women and a man", 3, "a woman * and a woman * and a man *"),
        ("the dog chases people", 2, "the dog chases a person * and a person *"),
        ("the left one smiles, the right one waits", 2, "the left one * smiles, the right one * waits"),
        ("a woman. The woman is a doctor", 1, "a woman *. The woman is a doctor"),
        ("she smiles while he reads", 2, "she * smiles while he * reads"),
        ("a man and another man", 2, "a man * and another man *"),
        ("a statue of a man beside a girl", 1, "a statue of a man beside a girl *"),
        ("a boy's bicycle next to a boy", 1, "a boy's bicycle next to a boy *"),
        ("a woman dressed as a nurse", 1, "a woman * dressed as a nurse"),
        ("a baby stroller pushed by a mother", 1, "a baby stroller pushed by a mother *"),
        ("two men, one with a hat", 2, "a man * and a man *, one with a hat"),
        ("two kids, people in the background", 2, "a kid * and a kid *, people in the background"),
        ("sunset 2019", 1, "a photo of a person *, sunset 2019"),
        (f"the host {M} of the show", 1, "the host * of the show"),
        (None, 2, "a photo of a person * on the left and a person * on the right"),
        ("no people", 0, "no people"),
    ],
)  # fmt: skip
def test_everybody_gets_a_noun(caption: str | None, num: int, made: str) -> None:
    found = matched(caption, [10.0] * num, "person")
    assert marked(found) == made.replace("*", M)
    assert None not in found.ends


def test_sides_are_where_people_are_and_the_largest_are_meant() -> None:
    caption = "The woman on the right laughs while the man on the left reads"
    assert matched(caption, [1, 1], "person").ends == (caption.index(" on the left"), len("The woman"))
    # One is named, three are there: the largest face is meant.
    assert matched("a man in a crowded bar", [8, 30, 9], "person").ends == (None, len("a man"), None)
    # Two are named, three are there.
    assert matched("a man and a girl", [30, 8, 20], "person").ends == (5, None, 16)


def test_other_languages_are_told_apart() -> None:
    assert matched("Geburtstag im Garten mit allen Freunden", [1], "person").how == "no English"
    assert matched("海边的一个女人", [1], "person").how == "no English"
    assert matched("birthday in the garden", [1], "person").how == "no noun"


def test_a_marker_that_marks_nothing_is_said() -> None:
    with pytest.raises(UserError, match="must follow the noun"):
        matched(f"{M} a man", [1], "person")


@pytest.mark.parametrize("num", range(1, 7))
def test_the_template_names_everybody(num: int) -> None:
    text = template(num, "astronaut")
    assert text.count(f"an astronaut {M}") == num == len(mentions(text.replace(f" {M}", "")))


def test_the_captions_of_renders_are_read_as_they_were_meant() -> None:
    """The renderer knows where each noun ends."""
    mix, wrong = replace(picture.MIXES["all"], count=(0.25, 0.25, 0.25, 0.25)), []
    for n in range(40):
        spec = picture.draw(mix, numpy_rng(n, "nouns"), 12)
        text, ends = picture.describe(spec)
        found = matched(text, [1.0] * len(ends), "person")
        if list(found.ends) != ends or found.caption != text:
            wrong.append((text, ends, found.ends))
    assert not wrong
