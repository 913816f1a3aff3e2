"""`fdlab leaderboard --compare`, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fdlab import __main__ as program
from fdlab.metrics import bootstrap
from fdlab.records import record


def put(root: Path, shift: float, benchmark: str = "a") -> str:
    rows: list[dict[str, Any]] = [
        {"id": f"s{n // 3}-p{n % 3}-0", "subject": f"s{n // 3}", "prompt": f"p{n % 3}", "index": 0,
         "clip_score": round(0.1 + 0.01 * n + shift, 6)} for n in range(12)
    ]  # fmt: skip
    value = sum(row["clip_score"] for row in rows) / 12
    about = {
        "name": "faces", "version": "1", "sha256": benchmark * 64, "num_subjects": 4, "num_prompts": 3,
        "images_per_prompt": 1,
    }  # fmt: skip
    entry = record.metric(
        "clip_score", bootstrap.Estimate(value, None, None, 12), {"name": "clip", "sha256": "1"}
    )
    made = record.build(about, {"name": root.name}, {"clip_score": entry}, {"kind": "measured"})
    record.write(root / "evaluation", made, rows)
    return str(root)


def test_two_runs_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = put(tmp_path / "a", 0.0), put(tmp_path / "b", 0.25)
    assert program.main(["leaderboard", "--compare", a, b]) == 0
    shown = capsys.readouterr().out
    assert "+0.250" in shown and f"B: b ({b}/evaluation/record.json)" in shown
    out = tmp_path / "compared.json"
    assert program.main(["leaderboard", "--compare", a, b, "--format", "json", "--out", str(out)]) == 0
    line = json.loads(out.read_text())["metrics"]["clip_score"]
    # Four subjects that agree may do so by chance: one time in eight.
    assert line["better"] is None and line["p_corrected"] == 0.125 and line["superiority"]["value"] == 1.0
    assert line["difference"]["value"] == pytest.approx(0.25)
    for form, start in (("markdown", "## faces v1, the same 12 pictures, 4 subjects"), ("csv", "metric,a,b")):
        assert program.main(["leaderboard", "--compare", a, b, "--format", form]) == 0
        assert capsys.readouterr().out.startswith(start)


def test_wrong_input_is_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, other = put(tmp_path / "a", 0.0), put(tmp_path / "other", 0.1, benchmark="b")
    for arguments, said in (
        (["--compare", a], "--compare: expected 2 arguments"),
        (["--compare", a, other], "their benchmarks differ"),
        (["--compare", a, str(tmp_path / "gone")], "no record"),
        (["--compare", a, a, "--by", "clip_score"], "no DIR, --by or --published, nor --page"),
        (["--compare", a, a, "--out", "x.md"], "--out needs --format"),
        (["vrify", "x.zip"], "Did you mean 'verify'?"),
        (["--format", "csv", "vrify"], "no folder 'vrify'"),
    ):
        assert program.main(["leaderboard", *arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and said in error


def test_the_page_and_the_schema_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path / "runs/a", 0.0)
    page, schema = tmp_path / "out/board.html", tmp_path / "schema.json"
    line = ["leaderboard", str(tmp_path / "runs"), "--no-quoted"]
    assert program.main([*line, "--page", str(page), "--format", "latex"]) == 0
    assert "\\toprule" in capsys.readouterr().out
    # Links lead from where the page lies.
    assert '"records":["../runs/a/evaluation/record.json"]' in page.read_text()
    assert program.main(["leaderboard", "--schema", "--out", str(schema)]) == 0
    assert json.loads(schema.read_text())["$id"] == "urn:fdlab:record:1"
    assert program.main([*line, "--from-wandb", "x"]) == 2
    assert "allowed is ENTITY/PROJECT" in capsys.readouterr().err


def test_an_invalid_record_is_named_and_hides_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "good", 0.0)
    put(tmp_path / "bad", 0.0)
    bad = tmp_path / "bad/evaluation/record.json"
    bad.write_text(bad.read_text().replace('"n": 12', '"n": "twelve"'))
    for form in ("terminal", "markdown", "json", "csv"):
        assert program.main(["leaderboard", str(tmp_path), "--format", form, "--no-quoted"]) == 2
        out, err = capsys.readouterr()
        assert "good" in out and "0.155" in out
        assert err.count("\n") == 1 and str(bad) in err and "metrics.clip_score.n is 'twelve'" in err
