"""Grids: every combination once, in a process and directory of its own; failures stop nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fdlab.errors import UserError
from fdlab.files import write_json
from fdlab.sweeps import grid
from tests.worlds.holder import held
from tests.worlds.records import example

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


def test_a_key_varies_once() -> None:
    with pytest.raises(UserError, match="'seed=1,2' and 'seed=3,4' both vary seed"):
        grid.expand(["seed=1,2", "seed=3,4"])
    assert len(grid.expand(["seed=1", "seed=2"])) == 1


def test_a_wrong_value_is_found_before_any_trial_starts() -> None:
    with pytest.raises(UserError, match=r"trainer\.max_steps=0: must be >= 1"):
        grid.plan(["trainer.max_steps=5,0"])


def test_combinations_that_would_share_a_directory_are_refused() -> None:
    with pytest.raises(UserError, match="several combinations would write to"):
        grid.plan(["seed=1,2", "name=same"])


def write_record(trial: grid.Trial, value: float) -> None:
    write_json(trial.folder / "evaluation" / "record.json", example(auc=value))


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
    assert header == ["seed", "identity_auc", "frechet_distance", "result"]
    assert rows[0] == ["1", "0.100 [0.000, 0.200]", "12.500", str(trials[0].folder)]
    assert rows[1] == ["2", "-", "-", "FAILED: it broke"]
    assert not any(outcome.error for outcome in grid.run(trials, runner))
    assert started == ["1", "2", "3", "2"]
    # A damaged record ends its own trial.
    (trials[0].folder / "evaluation" / "record.json").write_text("{")
    assert [bool(outcome.error) for outcome in grid.run(trials, runner)] == [True, False, False]


def test_a_killed_process_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (trial,) = grid.plan(["seed=1", f"paths.runs={tmp_path}"])
    monkeypatch.setattr(grid, "_wait", lambda *args: -signal.SIGKILL)
    assert grid.run_process(trial) == "killed by SIGKILL"


def test_a_trial_that_still_runs_is_not_started_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = grid.plan(["seed=1,2", f"paths.runs={tmp_path}"])
    with held(trials[0].folder) as pid:
        outcomes = grid.run(trials, lambda trial: "" if trial is trials[1] else "started")
        assert outcomes[0].error.startswith(f"still runs: process {pid} on ") and not outcomes[1].error
    assert [outcome.error for outcome in grid.run(trials[:1], lambda trial: "started")] == ["started"]
    assert "[1/2] seed=1: still runs: process" in capsys.readouterr().out


def test_an_interrupt_is_handed_to_the_trial_which_may_save_before_it_ends(tmp_path: Path) -> None:
    """As a terminal does it: the signal reaches the grid, and the trial only through it, once."""
    trial = "import signal, sys, time\nseen = []\nsignal.signal(2, lambda *_: seen.append(1))\n"
    trial += "open(sys.argv[1], 'w').close()\nwhile not seen: time.sleep(0.02)\ntime.sleep(0.5)\n"
    trial += "open(sys.argv[1], 'w').write('saved' * len(seen)); sys.exit(130)"
    script = "import sys; from fdlab.sweeps import grid; "
    script += "print(grid._wait([sys.executable, *sys.argv[1:]], {}), flush=True)"
    command = [sys.executable, "-c", script, "-c", trial, str(tmp_path / "trial")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, process_group=0) as parent:
        deadline = time.monotonic() + 60
        while not (tmp_path / "trial").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(parent.pid, signal.SIGINT)
        out, _ = parent.communicate(timeout=60)
    assert out == b"130\n" and (tmp_path / "trial").read_text() == "saved"
