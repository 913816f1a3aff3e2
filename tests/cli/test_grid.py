"""Grids: every combination once, in a process and directory of its own; failures stop nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fdlab.errors import UserError
from fdlab.sweeps import grid

EXPERIMENTS, SEEDS = ("sdm", "tdm"), ("seed=1", "seed=2")


@pytest.mark.parametrize(
    ("overrides", "combinations"),
    [
        (["seed=1"], [["seed=1"]]),
        (["seed=1,2"], [["seed=1"], ["seed=2"]]),
        (["+exp=sdm,tdm", "seed=range(1,3)"], [[f"+exp={e}", s] for e in EXPERIMENTS for s in SEEDS]),
        (["seed=choice(3,4)", "trainer=smoke"], [["seed=3", "trainer=smoke"], ["seed=4", "trainer=smoke"]]),
        (["model.betas=[0.9,0.99],[0.8,0.9]"], [["model.betas=[0.9,0.99]"], ["model.betas=[0.8,0.9]"]]),
        (["name='a,b'"], [["name='a,b'"]]),
    ],
)
def test_expansion(overrides: list[str], combinations: list[list[str]]) -> None:
    assert [lines for lines, _ in grid.expand(overrides)] == combinations


def test_expansion_says_what_varies() -> None:
    _, varied = grid.expand(["+exp=sdm", "seed=1,2", "model.lr=1e-4,3e-4"])[1]
    assert varied == {"seed": "1", "model.lr": "0.0003"}


@pytest.mark.parametrize(
    ("override", "said"),
    [("model.lr=interval(0,1)", "an interval has no grid"), ("trainer=glob(*)", "patterns are not expanded")],
)
def test_what_has_no_grid_is_refused(override: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        grid.expand([override])


def test_a_wrong_value_is_found_before_any_trial_starts() -> None:
    with pytest.raises(UserError, match=r"trainer\.max_steps=0: must be >= 1"):
        grid.plan(["trainer.max_steps=5,0"])


def test_combinations_that_would_share_a_directory_are_refused() -> None:
    with pytest.raises(UserError, match="several combinations would write to"):
        grid.plan(["seed=1,2", "name=same"])


def write_record(trial: grid.Trial, value: float) -> None:
    (trial.folder / "evaluation").mkdir(parents=True)
    metric = {"value": value, "ci_low": value - 0.1, "ci_high": value + 0.1}
    record = {"metrics": {"identity_auc": metric, "fid": {"value": None}}}
    (trial.folder / "evaluation" / "record.json").write_text(json.dumps(record))


def test_a_failing_trial_is_listed_and_stops_none_and_a_finished_one_is_not_repeated(tmp_path: Path) -> None:
    trials = grid.plan(["seed=1,2,3", f"paths.runs={tmp_path}"])
    started: list[str] = []

    def runner(trial: grid.Trial) -> str:
        started.append(trial.varied["seed"])
        if trial.varied["seed"] == "2" and len(started) < 4:
            return "it broke"
        write_record(trial, int(trial.varied["seed"]) / 10)
        return ""

    outcomes = grid.run(trials, runner)
    assert [outcome.error for outcome in outcomes] == ["", "it broke", ""]
    header, rows = grid.table(outcomes)
    assert header == ["seed", "identity_auc", "fid", "result"]
    assert rows[0] == ["1", "0.100 [0.000, 0.200]", "-", str(trials[0].folder)]
    assert rows[1] == ["2", "-", "-", "FAILED: it broke"]
    assert not any(outcome.error for outcome in grid.run(trials, runner))
    assert started == ["1", "2", "3", "2"]


def test_a_killed_process_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import signal
    import subprocess

    (trial,) = grid.plan(["seed=1", f"paths.runs={tmp_path}"])
    killed = subprocess.CompletedProcess([], -signal.SIGKILL)
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: killed)
    assert grid.run_process(trial) == "killed by SIGKILL"
