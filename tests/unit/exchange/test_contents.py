"""`checkpoint info`: what ships, as it lies there."""

from __future__ import annotations

import pytest

from fdlab.errors import UserError
from fdlab.exchange.contents import describe


def test_weights_in_eight_bits_are_said_to_be() -> None:
    rows = {row.part: row for row in describe("asset:nano/early")}
    assert rows["unet"].dtypes == "float16+int8"
    plain = next(row for row in describe("asset:nano/base") if row.part == "unet")
    assert (rows["unet"].tensors, rows["unet"].parameters) == (plain.tensors, plain.parameters)


def test_the_judge_is_its_clip_and_what_answers() -> None:
    clip, heads = describe("asset:nano/judge")
    assert (clip.part, clip.class_name) == ("clip", "CLIPModel")
    assert (heads.part, heads.class_name, heads.dtypes) == ("heads", "Answering", "float16+int8")
    assert heads.parameters > 800_000


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("shipped", r"What ships: .*asset:nano/sdm, asset:nano/tdm\.$"),
        ("early", "Did you mean 'asset:nano/early'"),
    ],
)
def test_what_is_not_there_is_told_what_ships(given: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        describe(given)
