from __future__ import annotations

import copy
import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from fdlab.cli import leaderboard as verb
from fdlab.errors import UserError
from fdlab.leaderboard import board, collect, published
from fdlab.metrics.bootstrap import Estimate
from fdlab.publishing import formats
from fdlab.records import record

EXTRACTOR = {"name": "squares", "sha256": "0" * 64}


def made(
    name: str,
    auc: float,
    benchmark: str = "a",
    extractor: dict[str, Any] | None = None,
    clip: float | None = None,
) -> dict[str, Any]:
    about = {
        "name": "squares", "version": "1", "sha256": benchmark * 64, "num_subjects": 4,
        "num_prompts": 2, "images_per_prompt": 1,
    }  # fmt: skip
    metrics = {
        "identity_auc": record.metric(
            "identity_auc", Estimate(auc, auc - 0.1, min(auc + 0.1, 1.0), 8), extractor or EXTRACTOR
        )
    }
    if clip is not None:
        metrics["clip_score"] = record.metric(
            "clip_score", Estimate(clip, None, None, 8), {"name": "clip", "sha256": "1"}
        )
    return record.build(about, {"name": name}, metrics, {"kind": "measured", "created": "now"})


def put(root: Path, run: str, content: dict[str, Any]) -> Path:
    return record.write(root / run / "evaluation", content, [])


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    put(tmp_path, "worse", made("snf", 0.6))
    put(tmp_path, "better", made("snf", 0.8, clip=0.3))
    put(tmp_path, "elsewhere", made("snf", 0.99, benchmark="b"))
    put(tmp_path, "other_eyes", made("snf", 0.97, extractor={"name": "squares", "sha256": "9" * 64}))
    return tmp_path


def test_only_what_is_comparable_stands_together_best_first(runs: Path) -> None:
    entries, problems = collect.find([runs])
    assert len(entries) == 4 and not problems
    groups = collect.group(entries)
    assert [[entry.run for entry in g.entries] for g in groups] == [
        ["better", "worse"],
        ["other_eyes"],
        ["elsewhere"],
    ]
    assert [[e.run for e in g.entries] for g in collect.group(entries[::-1])] == [
        [e.run for e in g.entries] for g in groups
    ]


def test_another_version_of_a_metric_is_another_table(runs: Path) -> None:
    newer = copy.deepcopy(made("snf", 0.7))
    newer["metrics"]["identity_auc"]["version"] = "2"
    put(runs, "newer", newer)
    groups = collect.group(collect.find([runs])[0])
    assert [[e.run for e in g.entries] for g in groups if any(e.run == "newer" for e in g.entries)] == [
        ["newer"]
    ]


def test_distances_are_ordered_from_below(tmp_path: Path) -> None:
    for run, value in (("far", 9.0), ("near", 1.0)):
        entry = made("m", 0.5)
        entry["metrics"] = {
            "frechet_distance": record.metric("frechet_distance", Estimate(value, None, None, 8), EXTRACTOR)
        }
        put(tmp_path, run, entry)
    put(tmp_path, "without", made("m", 0.9))
    (only,) = collect.group(collect.find([tmp_path])[0], by="frechet_distance")
    assert [entry.run for entry in only.entries] == ["near", "far", "without"]
    with pytest.raises(UserError, match="Did you mean 'cmmd'"):
        collect.group([], by="cmmdd")


def test_broken_records_are_listed_and_stop_nothing(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(runs, "broken", made("snf", 0.5)).write_text('{"schema_version": 1')
    assert verb.main([str(runs), "--format", "markdown", "--no-quoted"]) == 2
    out, err = capsys.readouterr()
    assert "| snf (better) |" in out and err.count("\n") == 1 and "broken/evaluation/record.json" in err
    with pytest.raises(UserError, match="no folder"):
        verb.main([str(runs / "gone")])


def test_formats_agree(runs: Path) -> None:
    quoted = published.load(published.DEFAULT)
    made = board.make(collect.group(collect.find([runs])[0]), quoted)
    data = json.loads(formats.as_json(made))
    assert len(data["measured"]) == 3 and all(entry["kind"] == "quoted" for entry in data["quoted"])
    lines = list(csv.DictReader(io.StringIO(formats.as_csv(made))))
    measured = [line for line in lines if line["kind"] == "measured"]
    assert len(measured) == 5 and len(lines) > len(measured)
    first = next(line for line in measured if line["run"] == "better" and line["metric"] == "identity_auc")
    assert float(first["value"]) == 0.8 and first["rank"] == ""
    text = formats.markdown(made)
    assert text.count("(quoted)") == sum(len(entry.rows) for entry in quoted)


def test_quoted_numbers_are_never_among_measured_ones(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = runs / "board.json"
    assert verb.main([str(runs), "--format", "json", "--out", str(out)]) == 0
    data = json.loads(out.read_text())
    assert all(
        r["provenance"]["kind"] == "measured"
        for group in data["measured"]
        for row in group["rows"]
        for r in row["records"]
    )
    assert verb.main([str(runs)]) == 0
    shown = capsys.readouterr().out
    assert "QUOTED, not measured here" in shown and "identity AUC" in shown
    with pytest.raises(UserError, match="--out needs"):
        verb.main([str(runs), "--out", str(out)])


def test_nothing_found_says_how_to_make_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb.main([str(tmp_path), "--no-quoted"]) == 0
    assert "python -m fdlab train" in capsys.readouterr().out
