"""`fdlab data`: what was rendered is whole, and what is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from fdlab.__main__ import main
from tests.worlds import tiny


def test_render_check_and_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "people")
    assert main(["data", "render", folder, "--num", "3", "--size", "32", "--workers", "1"]) == 0
    assert main(["data", "check", folder]) == 0
    page = tmp_path / "page.html"
    assert main(["data", "stats", folder, "--page", str(page)]) == 0
    shown = capsys.readouterr().out
    assert "3 samples with" in shown and "pictures               3" in shown and "faces" in page.read_text()
    assert main(["data", "stats", folder, "--json", "--no-faces"]) == 0
    assert json.loads(capsys.readouterr().out)["pictures_by_subjects"].keys() <= {"1", "2", "3", "4"}
    for to in ("webdataset", "plain"):
        assert main(["data", "convert", folder, str(tmp_path / to), "--to", to]) == 0
        assert main(["data", "check", str(tmp_path / to)]) == 0
    assert "3 pictures in" in capsys.readouterr().out
    (broken, *_) = sorted((tmp_path / "people").rglob("*.png"))
    broken.write_bytes(broken.read_bytes()[:100])
    assert main(["data", "check", folder]) == 1
    shown = capsys.readouterr().out
    assert f"broken: picture '{broken}' cannot be read" in shown and "2 samples with" in shown
    (problem,) = (tmp_path / "people/check.jsonl").read_text().splitlines()
    assert json.loads(problem)["id"] == broken.stem


def test_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(tmp_path / "nothing")]) == 2
    assert "nothing" in capsys.readouterr().err


@pytest.mark.long
def test_somebody_without_a_face_is_named_where_heads_are_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "people")
    words = ["--mix", "aligned-portraits", "--num", "2", "--workers", "1"]
    assert main(["data", "render", folder, *words]) == 0
    (first, _) = sorted((tmp_path / "people").rglob("*.png"))
    Image.new("RGB", (128, 128), "grey").save(first)
    assert main(["data", "check", folder]) == 0
    capsys.readouterr()
    assert main(["data", "check", folder, "--reference-crop", "head"]) == 1
    said = capsys.readouterr().out
    assert first.stem in said and "data.skip_corrupt=true" in said and "reference_crop=person" in said
    # And training leaves it out too, sample grids included.
    train = [
        "train",
        "+exp=sdm",
        "trainer=smoke",
        "evaluate=false",
        "trainer.max_steps=1",
        "trainer.batch_size=1",
    ]
    train += ["trainer.sample_every=1", "data=fastcomposer", f"data.root={folder}", f"paths.runs={tmp_path}"]
    assert main([*train, f"paths.cache={tmp_path}"]) == 2
    assert main([*train, f"paths.cache={tmp_path}", "data.skip_corrupt=true"]) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["rendr"],
            "unknown fdlab data command 'rendr'; allowed: benchmark, check, convert, doctor, prepare, "
            "render, stats.",
        ),
        (["render", "x", "--mix", "scene"], "Did you mean 'scenes'?"),
        (
            ["stats", "x", "--split", "tset"],
            "unknown --split 'tset'; allowed: all, test, train. Did you mean 'test'?",
        ),
        (["render", "x", "--size", "999999"], "'999999' is no whole number of pixels; allowed: 16 to 4096"),
        (["render", "x", "--num", "0"], "argument --num: '0' is not a whole number from 1"),
    ],
)
def test_a_wrong_word_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_labels_that_nobody_has_are_told_and_no_copy_is_written_into_its_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people_folder = tiny.write_folder(tmp_path / "people", 3)
    assert main(["data", "check", str(people_folder), "--labels", "persn", "--workers", "1"]) == 0
    assert "nobody: no segment has a label of persn" in capsys.readouterr().out
    assert main(["data", "check", str(people_folder), "--fix", str(people_folder / "new")]) == 2
    assert "lie in each other" in capsys.readouterr().err


def test_the_doctor_says_whether_it_will_learn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "people"
    words = ["--mix", "aligned-portraits", "--num", "10", "--workers", "1"]
    assert main(["data", "render", str(folder), *words]) == 0
    doctor = ["data", "doctor", str(folder), "--no-train", "--workers", "1"]
    assert main([*doctor, "data.reference=mixed"]) == 0
    said = capsys.readouterr().out
    assert (
        "Nothing found keeps it from learning; beware of " in said
        and "beware          amount" in said
        and "data.reference=mixed" not in said
    )
    # One face less, and a training would stop there.
    (first, *_) = sorted(folder.rglob("*.png"))
    Image.new("RGB", (128, 128), "grey").save(first)
    page = tmp_path / "page.html"
    assert main([*doctor, "--json", "--out", str(tmp_path / "doctor.json"), "--page", str(page)]) == 1
    text = page.read_text()
    assert "It will not learn." in text and "1 person without a face that is found" in text
    assert text.count("data:image/webp;base64,") == 1 and "<script" not in text
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads((tmp_path / "doctor.json").read_text()) and shown["will_learn"] is False
    assert "data.skip_corrupt=true" in next(f for f in shown["findings"] if f["name"] == "readable")["cure"]
    assert main([*doctor, "data.labels=[persn"]) == 2
    assert main(["data", "doctor", str(tmp_path / "nothing"), "--no-train"]) == 2
    assert "nothing" in capsys.readouterr().err
