from __future__ import annotations

from types import ModuleType

import pytest

from fdlab.data.captions import MARKER, encode, mark, null_ids, parse
from fdlab.errors import UserError


@pytest.mark.parametrize(
    ("marked", "text", "ends"),
    [
        ("a woman <|image|> in snow", "a woman in snow", [7]),
        ("a man <|image|> and a woman <|image|> on a beach", "a man and a woman on a beach", [5, 17]),
        ("a woman <|image|>, smiling", "a woman, smiling", [7]),
        ("  a woman <|image|>", "a woman", [7]),
        ("a woman<|image|>", "a woman", [7]),
        ("no subject", "no subject", []),
    ],
)
def test_markers_come_out_and_go_back(marked: str, text: str, ends: list[int]) -> None:
    assert parse(marked) == (text, ends)
    assert parse(mark(text, ends)) == (text, ends)


@pytest.mark.parametrize("marked", ["<|image|> a woman", "a woman <|image|> <|image|>"])
def test_a_marker_without_its_noun_is_refused(marked: str) -> None:
    with pytest.raises(UserError, match="marker"):
        parse(marked)


def test_the_position_is_that_of_the_nouns_last_token(world: ModuleType) -> None:
    tokenizer = world.tokenizer()
    text, ends = "a woman and a man on a beach", [7, 17]
    encoded = encode(tokenizer, text, ends)
    words = tokenizer.convert_ids_to_tokens(encoded.input_ids_L.tolist())
    assert [words[p] for p in encoded.positions] == ["woman</w>", "man</w>"]
    assert words[0] == "<|startoftext|>"
    assert encoded.input_ids_L.shape == (world.LENGTH,)
    # A word of several tokens counts its last: "cat" is three letters here.
    encoded = encode(tokenizer, "a cat on a beach", [5])
    assert tokenizer.convert_ids_to_tokens([int(encoded.input_ids_L[encoded.positions[0]])]) == ["t</w>"]
    assert encoded.positions == [4]


def test_agrees_with_the_marker_tokenised_in_place(world: ModuleType) -> None:
    """The released code tokenises the marked caption, drops the marker and remembers the token before it."""
    tokenizer = world.tokenizer()
    marked = f"a woman {MARKER}, and a man {MARKER} on 2 xyz"
    ids, released = [tokenizer.bos_token_id], []
    for n, piece in enumerate(marked.split(MARKER)):
        if n:
            released.append(len(ids) - 1)
        ids += tokenizer(piece, add_special_tokens=False).input_ids
    encoded = encode(tokenizer, *parse(marked))
    assert encoded.positions == released
    assert encoded.input_ids_L[: len(ids)].tolist() == ids


def test_a_long_caption_keeps_its_end_token(world: ModuleType) -> None:
    tokenizer = world.tokenizer()
    ids = encode(tokenizer, "a man " + "x " * 40, [5]).input_ids_L
    assert ids[-1] == tokenizer.eos_token_id and ids[-2] != tokenizer.eos_token_id


def test_a_subject_past_the_last_token_is_refused(world: ModuleType) -> None:
    tokenizer = world.tokenizer()
    fits = "x " * (world.LENGTH - 3) + "man"
    assert encode(tokenizer, fits, [len(fits)]).positions == [world.LENGTH - 2]
    late = "x " * (world.LENGTH - 2) + "man"
    with pytest.raises(UserError, match="past the text encoder's last"):
        encode(tokenizer, late, [len(late)])


def test_a_marker_never_reaches_the_text_encoder(world: ModuleType) -> None:
    with pytest.raises(UserError, match="take markers out"):
        encode(world.tokenizer(), "a woman <|image|>")


def test_null_prompt(world: ModuleType) -> None:
    tokenizer = world.tokenizer()
    ids = null_ids(tokenizer)
    assert ids[0] == tokenizer.bos_token_id
    assert (ids[1:] == tokenizer.eos_token_id).all()
