"""Which networks measure: chosen by the configuration, checked before anything is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from safetensors.torch import save_file

from fdlab.config.compose import compose
from fdlab.errors import UserError
from fdlab.measure import choose as loading
from fdlab.measure.extractors.inception_net import Inception2015
from fdlab.measure.faces.choice import CHOICES


def asked(overrides: Sequence[str]) -> loading.ExtractorSettings:
    return loading.ExtractorSettings.read(compose(overrides).evaluation)


def lacking(*overrides: str) -> str:
    return next(loading.problems(asked(overrides)), "")


def test_the_configuration_knows_every_recogniser() -> None:
    for name in CHOICES:
        assert compose([f"evaluation.recogniser={name}"]).evaluation.recogniser == name
    with pytest.raises(UserError, match=r"facenett: allowed: .*dlib, .* Did you mean 'facenet'"):
        compose(["evaluation.recogniser=facenett"])
    with pytest.raises(UserError, match=r"unknown evaluation 'publishd'.* Did you mean 'published'"):
        compose(["evaluation=publishd"])


def test_what_is_missing_is_named_with_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "_in_hub_cache", lambda: None)
    assert lacking() == ""
    assert lacking("evaluation.recogniser=faceres", "evaluation.second=dlib") == ""
    arcface = lacking("evaluation.recogniser=arcface")
    assert "w600k_r50.onnx" in arcface and "evaluation.recogniser_weights=FILE" in arcface
    absent = lacking("evaluation.second=facenet", "evaluation.second_weights=none.pt")
    assert absent.startswith("evaluation.second_weights=none.pt: no such file; for 'facenet' download 2018")
    assert absent.endswith("and put it there.")
    assert "leave its weights null" in lacking("evaluation.recogniser_weights=none.pt")
    assert "is the first recogniser" in lacking("evaluation.second=dlib")
    assert "name the recogniser" in lacking("evaluation.second_weights=none.pt")
    assert "hf download openai/clip-vit-large-patch14 --include" in lacking("evaluation.clip=vit_l14")
    assert "Did you mean 'embedded'?" in lacking("evaluation.clip=embeded")
    assert "pt_inception-2015-12-05-6726825d.pth from" in lacking("evaluation.inception=none.pth")
    published = list(loading.problems(asked(["evaluation=published"])))
    assert len(published) == 3 and all("\n" not in line for line in published)
    with pytest.raises(UserError, match="for 'facenet' download"):
        loading.load_extractors(asked(["evaluation=published"]))


def test_extractors_are_those_chosen(tmp_path: Path) -> None:
    save_file(Inception2015().state_dict(), tmp_path / "inception.safetensors")
    judge = loading._judge_folder()
    chosen = loading.load_extractors(
        asked(
            [
                "evaluation.recogniser=faceres", "evaluation.second=dlib", f"evaluation.clip={judge}",
                f"evaluation.inception={tmp_path / 'inception.safetensors'}",
            ]
        )
    )  # fmt: skip
    summary = chosen.summary()
    assert summary["faces"]["name"] == "mtcnn+faceres_centered"
    assert summary["features"]["name"] == "inception-unknown-weights"
    assert summary["clip"]["name"] == f"clip:{judge.name}" and summary["judge"] is not None
    shipped = loading.load_extractors(asked([])).summary()
    assert shipped["faces"]["name"] == "mtcnn+dlib_resnet_centered"
    assert shipped["faces"]["sha256"] != summary["faces"]["sha256"]
    assert shipped["clip"] == summary["clip"]


def test_the_second_measures_faces_alone() -> None:
    assert loading.second(asked([])) is None
    second = loading.second(asked(["evaluation.second=faceres"]))
    assert second is not None and second.clip is second.features is second.judge is None
    assert second.faces is not None and second.faces.name == "mtcnn+faceres_centered"
