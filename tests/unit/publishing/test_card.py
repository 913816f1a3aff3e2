"""Model cards, as huggingface_hub itself reads them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from fdlab.__main__ import main
from fdlab.leaderboard import compare
from fdlab.publishing import card
from fdlab.records import record

FROZEN = Path(__file__).parent.with_name("leaderboard") / "frozen"


def test_the_hubs_own_reader_finds_every_number(tmp_path: Path) -> None:
    out = tmp_path / "README.md"
    assert main(["leaderboard", "card", str(FROZEN / "taught"), "--out", str(out)]) == 0
    read = ModelCard.load(out)
    made = record.read(FROZEN / "taught/evaluation/record.json")
    found = {result.metric_type: result for result in read.data.eval_results}
    assert set(found) == set(made["metrics"])
    for name, result in found.items():
        assert result.metric_value == pytest.approx(made["metrics"][name]["value"])
        assert result.dataset_revision == made["benchmark"]["sha256"] and result.dataset_type == "board"
        assert result.metric_args["extractor"] == made["metrics"][name]["extractor"]["name"]
        assert result.task_type == "text-to-image"
    name, results = model_index_to_eval_results(card.metadata(made)["model-index"])
    assert name == "taught" and len(results) == 2
    assert read.data.pipeline_tag == "text-to-image"
    assert "taught by its judge: trained to please faceres" in read.text
    assert read.text.count("0.808") == 1


def test_a_name_that_is_markup_is_text() -> None:
    text = card.text(compare.locate(FROZEN / "script"))
    assert "# \\<script\\>" in text and ModelCard(text).data.eval_results is not None


def test_a_card_says_that_a_text_encoder_learnt_too(tmp_path: Path) -> None:
    shutil.copytree(FROZEN / "weak", tmp_path / "run")
    path = tmp_path / "run/evaluation/record.json"
    made = json.loads(path.read_text())
    made["method"]["tdm"]["text_encoder_lr"] = 5e-6
    path.write_text(json.dumps(made))
    assert "`, its text encoder trained as well, at 5e-06\n" in card.text(compare.locate(tmp_path / "run"))


def test_a_card_says_what_its_pictures_say_against_it(tmp_path: Path) -> None:
    shutil.copytree(FROZEN / "weak", tmp_path / "liar")
    path = tmp_path / "liar/evaluation/record.json"
    made = json.loads(path.read_text())
    made["metrics"]["identity_similarity"] |= {"value": 0.999, "ci_low": 0.999, "ci_high": 0.999}
    path.write_text(json.dumps(made))
    against = "its pictures do not give its numbers"
    assert against in card.text(compare.locate(tmp_path / "liar"))
    assert against not in card.text(compare.locate(FROZEN / "weak"))
    path.with_name("per_sample.jsonl").unlink()
    assert "no single pictures" in card.text(compare.locate(tmp_path / "liar"))
