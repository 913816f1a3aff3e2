"""Captions: beside photos, and by a network of transformers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from fdlab.errors import UserError
from fdlab.preparation import captioners
from fdlab.preparation.captions import Beside
from fdlab.preparation.settings import CaptionSettings, Settings
from fdlab.preparation.work import Stage, packed
from tests.worlds import album


def test_captions_lie_beside_photos(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_text("a man\n in snow ")
    (tmp_path / "b.caption").write_text("a boy")
    (tmp_path / "e.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "metadata.jsonl").write_text(
        '{"file_name": "in/c.png", "text": "a girl"}\n'
        '{"file_name": "in/a.png", "caption": "not this"}\n{"x": 1}\n'
    )
    (tmp_path / "in/metadata.jsonl").write_text('{"file_name": "d.png", "prompt": "an aunt"}\n')
    beside = Beside(tmp_path)
    found = {name: beside(name) for name in ("in/a.png", "b.jpg", "in/c.png", "in/d.png", "e.png", "f.png")}
    assert found == {
        "in/a.png": "a man in snow",
        "b.jpg": "a boy",
        "in/c.png": "a girl",
        "in/d.png": "an aunt",
        "e.png": None,
        "f.png": None,
    }
    assert len(beside.unreadable) == 2


@pytest.fixture
def blip(tmp_path: Path) -> Path:
    """A BLIP of random weights, small enough to be made here."""
    import torch
    from transformers import (
        BertTokenizerFast,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "[DEC]",
        *["a", "man", "woman", "on", "the", "beach", "with", "hat"],
    ]
    folder = tmp_path / "blip"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizerFast(
        vocab_file=str(folder / "vocab.txt"), vocab={w: n for n, w in enumerate(words)}, bos_token="[DEC]"
    )
    shared = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"bos_token_id": 5, "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0}
    text = {**shared, **ids, "vocab_size": len(words), "encoder_hidden_size": 16}
    config = BlipConfig(
        text_config=text, vision_config={**shared, "image_size": 32, "patch_size": 16}, projection_dim=8
    )
    torch.manual_seed(0)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    BlipProcessor(BlipImageProcessor(size=size), tokenizer).save_pretrained(folder)
    return folder


def test_a_network_writes_captions(blip: Path, tmp_path: Path) -> None:
    path = album.write(tmp_path / "pictures/ab", "abc.jpg", album.picture(1, [0]), quality=95)
    pictures = Stage.of(tmp_path, "pictures", {}, Settings)
    settings = CaptionSettings("model", str(blip))
    stage = captioners.stage_of(pictures, tmp_path, settings)
    writer = captioners.Captioner(str(path.parent.parent), packed(asdict(settings)))
    first = writer(stage, "abc")
    assert set(first) == {"caption"} and first["caption"].isprintable()
    assert first == writer(stage, "abc") and "[" not in first["caption"]


def test_what_is_no_captioner_is_one_line(blip: Path, tmp_path: Path) -> None:
    (blip / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="no image-to-text model"):
        captioners.Captioner(str(tmp_path), packed(asdict(CaptionSettings("model", str(blip)))))
