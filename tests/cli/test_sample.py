"""`fdlab sample`: what it refuses, and what it leaves. The drawing itself is tested where it is done."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fdlab.__main__ import main
from fdlab.cli import sample
from fdlab.evaluation.generation import read_image


@pytest.mark.parametrize(
    ("prompt", "subjects", "sampler", "said"),
    [
        ("a woman on a beach", "[a.jpg]", "snf_demo", "has 0 markers <|image|>, but 1 subjects"),
        ("a woman <|image|> on a beach", "[]", "snf_demo", "has 1 markers <|image|>, but 0 subjects"),
        ("a woman <|image|> on a beach", "[a.jpg]", "tdm", "sampler 'tdm' draws no given subject"),
        ("a <|image|> b <|image|> c <|image|>", "[a.jpg,b.jpg,c.jpg]", "sdm", "has 3 subjects; at most 2"),
        ("a woman on a beach", "[]", "snf_demo", "no marker <|image|>; write one"),
        ("a woman <|image|> on a beach", "[/nowhere.jpg]", "snf_demo", "photo '/nowhere.jpg' does not exist"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    prompt: str, subjects: str, sampler: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", f"prompt={prompt}", f"subjects={subjects}", f"sampler={sampler}"]) == 2
    assert said in capsys.readouterr().err


def test_a_prompt_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample"]) == 2
    assert "'prompt' has no default" in capsys.readouterr().err


@pytest.mark.parametrize(
    "prompt", ['it\'s "she" <|image|>, [a={b}] \\ 100%', "a, b: c", "end\\", "null", "[1,2]"]
)
def test_a_prompt_is_plain_text(prompt: str, capsys: pytest.CaptureFixture[str]) -> None:
    import yaml

    assert main(["sample", f"prompt={prompt}", "--cfg", "job"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["prompt"] == prompt


def test_a_photo_that_is_none_is_named(tmp_path: Path) -> None:
    from fdlab.errors import UserError

    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"photo '.*a\.jpg' cannot be read"):
        sample._subject(tmp_path, 0, photo)


def test_a_photo_without_a_face_is_named(tmp_path: Path) -> None:
    from fdlab.errors import UserError

    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(tmp_path / "wall.png")
    with pytest.raises(UserError, match=r"no face found in photo '.*wall\.png'"):
        sample._subject(tmp_path, 0, tmp_path / "wall.png")


def test_the_square_around_a_face_stays_inside_the_picture() -> None:
    image = np.arange(100 * 80 * 3, dtype=np.uint32).reshape(100, 80, 3).astype(np.uint8)
    assert sample._around(image, (30, 40, 50, 60)).shape == (42, 42, 3)
    assert sample._around(image, (-5, -5, 15, 15)).shape == (26, 26, 3)


def test_pictures_and_settings_are_written(tmp_path: Path) -> None:
    from fdlab.config.compose import compose
    from fdlab.models.backbone import save_backbone
    from fdlab.models.tiny import tiny_backbone

    backbone = tiny_backbone()
    save_backbone(tmp_path / "tiny", backbone)
    keys = {
        "path": tmp_path / "tiny",
        "base": "null",
        "image_size": 64,
        "reference_size": 24,
        "max_tokens": 32,
    }
    overrides = [f"backbone.{key}={value}" for key, value in keys.items()]
    overrides += ["sampler=tdm", "sampler.num_steps=2", "tdm=base", "num_images=2", f"out={tmp_path / 'out'}"]
    cfg = compose(["prompt='a man on a beach'", *overrides], config_name="sample")
    *pictures, description = sample.draw(cfg)
    first, second = (read_image(path, 64) for path in pictures)
    assert (first != second).any()
    written = json.loads(description.read_text())
    assert [entry["prompt"] for entry in written["images"]] == ["a man on a beach"] * 2
    assert {tmp_path / "out" / entry["file"] for entry in written["images"]} == set(pictures)
