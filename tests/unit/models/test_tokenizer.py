"""The small CLIP tokenizer: made the same from the same captions, and read by transformers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from fdlab.errors import UserError
from fdlab.models.tokenizer import learn, load_tokenizer, token_ids, train_tokenizer
from tests.worlds.backbones import CAPTIONS


def test_same_captions_same_files_in_any_order(tmp_path: Path) -> None:
    train_tokenizer(CAPTIONS, tmp_path / "a", 700)
    train_tokenizer(CAPTIONS[::-1], tmp_path / "b", 700)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_merges_take_the_most_frequent_pair_first() -> None:
    # aab x3, ab x2: 'a b</w>' occurs 5 times, then 'a ab</w>' 3 times.
    assert learn(Counter({"aab": 3, "ab": 2}), ["a", "b"], 9) == [("a", "b</w>"), ("a", "ab</w>")]
    assert learn(Counter({"xy": 1}), ["x", "y"], 9) == []


def test_ids_are_clip_like(tmp_path: Path) -> None:
    train_tokenizer(CAPTIONS, tmp_path, 700, max_tokens=16)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.model_max_length == 16 and len(tokenizer) <= 700
    ids = token_ids(tokenizer, ["A Woman  in a red sweater", "", "a man " * 30])
    assert ids.shape == (3, 16)
    assert (ids[:, 0] == tokenizer.bos_token_id).all()
    assert ids[1, 1:].tolist() == [tokenizer.eos_token_id] * 15
    # Cut at the end, the end token stays.
    assert ids[2, -1] == tokenizer.eos_token_id and (ids[2, 1:-1] != tokenizer.eos_token_id).all()
    assert tokenizer.eos_token_id == len(tokenizer) - 1 and tokenizer.bos_token_id == len(tokenizer) - 2
    words = tokenizer.convert_ids_to_tokens(ids[0].tolist())
    assert words[:4] == ["<|startoftext|>", "a</w>", "woman</w>", "in</w>"]
    assert tokenizer.decode(ids[0], skip_special_tokens=True) == "a woman in a red sweater"


def test_any_text_survives(tmp_path: Path) -> None:
    train_tokenizer(CAPTIONS, tmp_path, 600)
    tokenizer = load_tokenizer(tmp_path)
    for text in ("zürich, 1999!", "日本語", "naïve café"):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids).replace(" ", "") == text.replace(" ", "")


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="vocab_size=100: at least 514"):
        train_tokenizer(CAPTIONS, tmp_path, 100)
    with pytest.raises(UserError, match=r"lacks 'vocab\.json'"):
        load_tokenizer(tmp_path)
