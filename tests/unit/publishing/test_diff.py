"""What tells two runs apart, and how surely."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fdlab.__main__ import main
from fdlab.leaderboard import compare
from fdlab.leaderboard.compare import as_dict
from fdlab.metrics import ranking
from fdlab.publishing import diff

FROZEN = Path(__file__).parent.with_name("leaderboard") / "frozen"


def of(a: Path, b: Path) -> diff.Difference:
    return diff.diff(compare.locate(a), compare.locate(b))


def test_settings_and_weights_that_differ(tmp_path: Path) -> None:
    made = of(FROZEN / "seed1", FROZEN / "seed2")
    assert [(key, *values) for key, *values in made.settings] == [
        ("name", "seed1", "seed2"), ("paths.runs", "/x0", "/x1"), ("seed", "1", "2"),
    ]  # fmt: skip
    assert [change[0] for change in made.weights] == ["sdm"]
    assert made.weights[0][1:] == ("bbbbbbbbbbbb (this run)", "cccccccccccc (this run)")
    # Without a configuration the record's method speaks.
    made = of(FROZEN / "close", FROZEN / "weak")
    assert ("method.sampler.guider", "average", "tdm") in made.settings
    same = of(FROZEN / "close", FROZEN / "close")
    assert not same.settings and not same.weights and same.comparison and not any(
        p <= 0.05 for p in same.comparison.corrected.values()
    )  # fmt: skip


def test_significance_is_corrected_over_the_metrics() -> None:
    made = of(FROZEN / "close", FROZEN / "weak").comparison
    assert made is not None
    raw = np.array([line.chance for line in made.lines])
    assert made.corrected == pytest.approx(
        dict(zip((line.metric for line in made.lines), ranking.adjusted(raw), strict=True))
    )
    assert made.corrected["identity_similarity"] < 0.01 < made.corrected["prompt_accuracy"]


def test_who_is_named_better_is_so_after_the_correction() -> None:
    """Of twenty metrics without any difference, an interval alone would name one."""
    named = sure = 0
    for a, b in itertools.permutations(("close", "weak", "taught", "seen", "seed1", "seed2"), 2):
        made = of(FROZEN / a, FROZEN / b).comparison
        assert made is not None
        shown = as_dict(made)["metrics"]
        for line in made.lines:
            is_sure = made.corrected.get(line.metric, 1.0) < ranking.LEVEL
            assert shown[line.metric]["better"] == ((line.better or None) if is_sure else None)
            named, sure = named + bool(line.better), sure + bool(shown[line.metric]["better"])
    assert 0 < sure < named


def test_adjusted_values_are_holms() -> None:
    # By hand: 4 x 0.01, 3 x 0.02, 2 x 0.03, and the last may not fall below it.
    raw = np.array([0.03, 0.01, 0.04, 0.02])
    assert ranking.adjusted(raw) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    rng = np.random.default_rng(0)
    for _ in range(50):
        raw = rng.random(6) ** 4
        assert ((ranking.adjusted(raw) <= ranking.LEVEL) == ranking.holm(raw)).all()


def test_what_cannot_be_paired_is_still_told_apart(make: Callable[..., Path]) -> None:
    made = of(FROZEN / "close", FROZEN / "eyes")
    assert made.comparison is None and "not measured alike" in made.problem
    assert ("method.name", "average", "sdm") in made.settings
    assert "Not paired: " in diff.markdown(made)


def test_the_sub_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = str(FROZEN / "seed1"), str(FROZEN / "weak")
    assert main(["leaderboard", "diff", a, b]) == 0
    shown = capsys.readouterr().out
    assert "settings that differ" in shown and "B - A" in shown and "p, corrected" in shown
    # No chance is nought.
    assert "<0.001" in shown
    out = tmp_path / "d.json"
    assert main(["leaderboard", "diff", a, b, "--format", "json", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["scores"]["metrics"]["identity_similarity"]["p"] < 0.05
    # One of both has no configuration: like is set against like.
    assert found["settings_of"] == "B without config.yaml: settings are what records say"
    assert "seed" not in found["settings"] and "method.sampler.guider" in found["settings"]
    assert main(["leaderboard", "diff", a, str(FROZEN / "seed2"), "--format", "json", "--out", str(out)]) == 0
    assert json.loads(out.read_text())["settings"]["seed"] == ["1", "2"]
    assert main(["leaderboard", "diff", a, b, "--format", "json", "--out", str(tmp_path)]) == 2
    assert "is a folder; give the name of a file" in capsys.readouterr().err
    assert main(["leaderboard", "diff", a, b, "--format", "json", "--out", "/proc/x.json"]) == 2
    assert "'/proc/x.json' cannot be written" in capsys.readouterr().err
    assert main(["leaderboard", "diff", a, b, "--format", "markdown"]) == 0
    assert "## Weights that differ" in capsys.readouterr().out
    assert main(["leaderboard", "diff", a, str(tmp_path / "gone")]) == 2
    assert main(["leaderboard", "diff", a]) == 2
    # A folder may still be called so.
    shutil.copytree(FROZEN / "close", tmp_path / "diff")
    assert main(["leaderboard", str(tmp_path / "diff"), "--no-quoted"]) == 0


def test_another_benchmark_is_a_difference() -> None:
    made = diff.diff(compare.locate(FROZEN / "weak"), compare.locate(FROZEN / "else"))
    assert made.comparison is None and "benchmark.sha256" in [key for key, *_ in made.settings]
