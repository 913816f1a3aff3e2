"""`fdlab data`: what was rendered is whole, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from fdlab.__main__ import main


def test_render_check_and_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "people")
    assert main(["data", "render", folder, "--num", "3", "--size", "32", "--workers", "1"]) == 0
    assert main(["data", "check", folder]) == 0
    assert main(["data", "stats", folder]) == 0
    shown = capsys.readouterr().out
    assert "3 samples with" in shown and "pictures               3" in shown
    (broken, *_) = sorted((tmp_path / "people").rglob("*.png"))
    broken.write_bytes(broken.read_bytes()[:100])
    assert main(["data", "check", folder]) == 2
    assert broken.name.removesuffix(".png") in capsys.readouterr().err
    assert main(["data", "check", folder, "--skip-corrupt"]) == 1
    assert "2 samples" in capsys.readouterr().out


def test_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(tmp_path / "nothing")]) == 2
    assert "nothing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["rendr"],
            "unknown fdlab data command 'rendr'; allowed: check, convert, render, stats. Did you mean",
        ),
        (["render", "x", "--mix", "scene"], "Did you mean 'scenes'?"),
        (
            ["stats", "x", "--split", "tset"],
            "unknown --split 'tset'; allowed: all, test, train. Did you mean 'test'?",
        ),
        (["render", "x", "--num", "0"], "argument --num: '0' is not a whole number from 1"),
    ],
)
def test_a_wrong_word_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
