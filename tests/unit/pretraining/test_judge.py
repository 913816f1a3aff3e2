from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from fdlab.errors import UserError
from fdlab.measure.extractors.clip import ClipExtractor
from fdlab.models.answering import Answering
from fdlab.models.judge import Judge, JudgeExtractor, build_clip
from fdlab.models.tokenizer import load_tokenizer
from fdlab.pretraining.judge import UNKNOWN, answers_of, coded, head_loss, pretrain, vocabularies_of, worsened

SMALL = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
CONFIG = {
    "text": {**SMALL, "max_position_embeddings": 24},
    "vision": {**SMALL, "image_size": 32, "patch_size": 8},
    "answering": {"widths": [8, 16, 16, 16]},
}


@pytest.fixture
def judge(tokenizer_folder) -> Judge:
    clip = build_clip(load_tokenizer(tokenizer_folder), 0, CONFIG["vision"], CONFIG["text"])
    return Judge(clip, {"style": ["photograph", "watercolor"], "scene": ["beach", "city", "snow"]}).eval()


def test_truth_becomes_answers_and_only_one_person_is_described():
    attributes = {"noun": "man", "hat": None, "clothes_color": "red"}
    person = {"segment": 1, "identity": 3, "attributes": attributes}
    one = answers_of({"scene": "beach", "style": "photograph", "people": [person]})
    assert one == {
        "scene": "beach",
        "style": "photograph",
        "people": "1",
        "noun": "man",
        "hat": "none",
        "clothes_color": "red",
    }
    two = answers_of({"scene": "snow", "people": [person, person]})
    assert two == {"scene": "snow", "people": "2"}
    assert answers_of({}) == {}
    words = vocabularies_of([one, two, {"noun": "woman"}])
    assert words == {"scene": ["beach", "snow"], "people": ["1", "2"], "noun": ["man", "woman"]}
    assert coded([one, two], {"scene": ["beach", "snow"], "noun": ["man", "woman"]}).tolist() == [
        [0, 0],
        [1, UNKNOWN],
    ]


def test_unknown_answers_do_not_count():
    logits = {"a": torch.tensor([[0.0, 0.0], [9.0, 0.0]]), "b": torch.zeros(2, 3)}
    target = torch.tensor([[0, UNKNOWN], [UNKNOWN, UNKNOWN]])
    assert head_loss(logits, target) == pytest.approx(np.log(2))


def test_worsened_pictures_keep_size_and_range_and_follow_the_generator():
    images = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3)).astype(np.uint8)
    one, two = (worsened(images, 24, np.random.default_rng(5)) for _ in range(2))
    assert one.shape == (3, 3, 24, 24) and torch.equal(one, two) and bool(torch.isfinite(one).all())
    assert not torch.equal(one, worsened(images, 24, np.random.default_rng(6)))


def test_saved_and_loaded_it_judges_alike_and_serves_as_clip(judge, tokenizer_folder, tmp_path):
    judge.save(tmp_path / "judge", tokenizer_folder)
    images = np.random.default_rng(0).integers(0, 255, (5, 40, 40, 3)).astype(np.uint8)
    loaded = JudgeExtractor(tmp_path / "judge")
    answers = loaded(images)
    assert answers == judge.judge(images, batch_size=2)
    assert set(answers) == {"style", "scene"} and set(answers["style"]) <= {"photograph", "watercolor"}
    assert all(len(found) == 5 for found in answers.values())
    assert loaded.name == "judge:judge" and len(loaded.sha256) == 64
    clip = ClipExtractor(tmp_path / "judge")
    assert clip(images).shape == (5, 128) and clip.texts(["a red shirt"]).shape == (1, 128)


def test_half_a_folder_is_refused_with_the_missing_name(judge, tokenizer_folder, tmp_path):
    judge.save(tmp_path, tokenizer_folder)
    for widths in (judge.widths, [8, 8, 8, 8]):
        said = {"heads": {"style": ["photograph"]}, "widths": widths}
        (tmp_path / "judge.json").write_text(json.dumps(said))
        with pytest.raises(UserError, match="does not fit"):
            Judge.load(tmp_path)
    for name, value in (("widths", []), ("widths", [0, 8, 8, 8]), ("heads", {})):
        (tmp_path / "judge.json").write_text(json.dumps({**said, name: value}))
        with pytest.raises(UserError, match=name):
            Judge.load(tmp_path)
    (tmp_path / "heads.safetensors").unlink()
    with pytest.raises(UserError, match=r"heads\.safetensors"):
        Judge.load(tmp_path)


def test_it_learns_to_tell_colours(packed, tokenizer_folder, tmp_path):
    assert pretrain(packed, tokenizer_folder, tmp_path, 1.0, batch_size=16, config=CONFIG, max_steps=80)
    judge = Judge.load(tmp_path / "judge")
    images = np.load(packed / "images.npy")
    worn = [
        truth["people"][0]["attributes"]["clothes_color"]
        for truth in json.loads((packed / "truths.json").read_text())
    ]
    right = np.mean([a == b for a, b in zip(judge.judge(images)["clothes_color"], worn, strict=True)])
    assert right > 0.8
    assert json.loads((tmp_path / "scores.json").read_text())["clothes_color"] >= 0.75


def test_a_clip_that_is_kept_stays_as_it_is(judge, packed, tokenizer_folder, tmp_path):
    judge.save(tmp_path / "before", tokenizer_folder)
    given = {"batch_size": 4, "config": CONFIG, "max_steps": 2, "clip_folder": tmp_path / "before"}
    assert pretrain(packed, tokenizer_folder, tmp_path / "run", 1.0, **given)
    before, after = (tmp_path / name / "model.safetensors" for name in ("before", "run/judge"))
    assert before.read_bytes() == after.read_bytes()


def test_an_answer_is_read_where_its_attention_falls():
    answering = Answering({"corner": ["dark", "bright"]}, (8, 8, 8, 8)).eval()
    with torch.no_grad():
        answering.places_AP.zero_()[0, 0] = 50.0
        dark, corner = torch.zeros(1, 3, 256, 256), torch.zeros(1, 3, 256, 256)
        corner[..., :32, :32] = 1.0
        at_the_place = (answering(corner)["corner"] - answering(dark)["corner"]).abs().max()
        answering.places_AP.zero_()[0, -1] = 50.0
        far_away = (answering(corner)["corner"] - answering(dark)["corner"]).abs().max()
    assert at_the_place > 2 * far_away
