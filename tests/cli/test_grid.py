"""Grids: every combination once, in a process and directory of its own; failures stop nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fdlab import __main__ as program
from fdlab import lock
from fdlab.errors import UserError
from fdlab.files import write_json
from fdlab.sweeps import driver, grid
from fdlab.sweeps.processes import DEVICES, Processes, share
from fdlab.sweeps.trial import Trial, log_of
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
    for again in ("seed=3,4", "seed=3"):
        with pytest.raises(UserError, match=f"'seed=1,2' varies seed, which '{again}' gives again"):
            grid.expand(["seed=1,2", again])
    assert len(grid.expand(["seed=1", "seed=2"])) == 1
    assert [varied["seed"] for _, varied in grid.expand(["seed=1", "seed=2,3"])] == ["2", "3"]


def test_a_wrong_value_is_found_before_any_trial_starts() -> None:
    with pytest.raises(UserError, match=r"trainer\.max_steps=0: must be >= 1"):
        grid.plan(["trainer.max_steps=5,0"])


def test_combinations_that_would_share_a_directory_are_refused() -> None:
    with pytest.raises(UserError, match="several combinations would write to"):
        grid.plan(["seed=1,2", "name=same"])


def write_record(trial: Trial, value: float) -> None:
    write_json(trial.folder / "evaluation" / "record.json", example(auc=value))


def test_a_failing_trial_is_listed_and_stops_none_and_a_finished_one_is_not_repeated(tmp_path: Path) -> None:
    trials = grid.plan(["seed=1,2,3", f"paths.runs={tmp_path}"])
    started: list[str] = []

    def runner(trial: Trial) -> str:
        started.append(trial.varied["seed"])
        if trial.varied["seed"] == "2" and len(started) < 4:
            return "it broke"
        write_record(trial, int(trial.varied["seed"]) / 10)
        return ""

    outcomes = driver.run(trials, runner)
    assert [outcome.error for outcome in outcomes] == ["", "it broke", ""]
    header, rows = grid.table(outcomes)
    assert header == ["seed", "identity_auc", "frechet_distance", "result"]
    assert rows[0] == ["1", "0.100 [0.000, 0.200]", "12.500", str(trials[0].folder)]
    assert rows[1] == ["2", "-", "-", "FAILED: it broke"]
    assert not any(outcome.error for outcome in driver.run(trials, runner))
    assert started == ["1", "2", "3", "2"]
    # A damaged record ends its own trial.
    (trials[0].folder / "evaluation" / "record.json").write_text("{")
    assert [bool(outcome.error) for outcome in driver.run(trials, runner)] == [True, False, False]


@pytest.mark.parametrize(
    ("status", "said"),
    [(0, ""), (-signal.SIGKILL, "killed by SIGKILL"), (3, "exit status 3"), (130, "interrupted; the same")],
)
def test_how_a_process_ended_is_said(
    status: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (trial,) = grid.plan(["seed=1", f"paths.runs={tmp_path}"])
    monkeypatch.setattr(Processes, "wait", lambda *args: status)
    assert Processes()(trial)[: len(said) or None] == said


def test_jobs_run_at_once_and_share_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    trials = grid.plan([f"seed={','.join(map(str, range(6)))}", f"paths.runs={tmp_path}"])
    together = threading.Barrier(3)
    seen: list[str] = []

    def wait(
        self: Processes, command: list[str], environment: dict[str, str], log: Path, folder: Path
    ) -> int:
        # Three have to come, or none goes on.
        together.wait(timeout=30)
        assert command[1:4] == ["-m", "fdlab", "train"] and environment["OMP_NUM_THREADS"] == "2"
        seen.append(log.name)
        return 0

    monkeypatch.setattr(Processes, "wait", wait)
    outcomes = driver.run(trials, jobs=3)
    assert [outcome.trial for outcome in outcomes] == trials and not any(o.error for o in outcomes)
    assert sorted(seen) == sorted(f"{trial.folder.name}.log" for trial in trials)


def test_gpus_are_shared_out_and_what_somebody_said_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3,6,7")
    assert [share(slot, 2) for slot in range(2)] == [{DEVICES: "2,6"}, {DEVICES: "3,7"}]
    assert [share(slot, 8)[DEVICES] for slot in range(8)] == ["2", "3", "6", "7"] * 2
    assert share(0, 1) == {}


@pytest.mark.parametrize("word", ["jobs=0", "jobs=two", "jobs=1.5", "jobs=5000"])
def test_a_number_of_jobs_that_is_none_is_refused(word: str) -> None:
    with pytest.raises(UserError, match=f"{word}: a whole number from 1"):
        grid.split_jobs(["seed=1,2", word])
    assert grid.split_jobs(["seed=1,2", "jobs=3"]) == (["seed=1,2"], 3)


@pytest.mark.parametrize("word", ["jobs=2", "launcher=ray", "launcher.partition=x", "+launcher=ray"])
def test_one_run_takes_no_choice_of_many(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    for line in (["train", "+exp=sdm", word], ["evaluate", word]):
        assert program.main(line) == 2
        assert "is a choice of many runs: add -m, or take `fdlab sweep`." in capsys.readouterr().err


def test_evaluations_have_grids_too(tmp_path: Path) -> None:
    trials = grid.plan(["sampler.alpha=0.1,0.2", "images=null", f"paths.runs={tmp_path}"], "evaluate")
    assert [trial.varied for trial in trials] == [{"sampler.alpha": "0.1"}, {"sampler.alpha": "0.2"}]
    assert all(t.verb == "evaluate" and t.measured and t.folder.parent.name == "evaluate" for t in trials)


def test_a_trial_that_still_runs_is_not_started_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = grid.plan(["seed=1,2", f"paths.runs={tmp_path}"])
    with held(trials[0].folder) as pid:
        outcomes = driver.run(trials, lambda trial: "" if trial is trials[1] else "started")
        assert outcomes[0].error.startswith(f"still runs: process {pid} on ") and not outcomes[1].error
    assert [outcome.error for outcome in driver.run(trials[:1], lambda trial: "started")] == ["started"]
    assert "[1/2] seed=1: still runs: process" in capsys.readouterr().out


def test_an_interrupt_is_handed_to_the_trial_which_may_save_before_it_ends(tmp_path: Path) -> None:
    """As a terminal does it: the signal reaches the grid, and the trial only through it, once."""
    trial = "import signal, sys, time\nseen = []\nsignal.signal(2, lambda *_: seen.append(1))\n"
    trial += "open(sys.argv[1], 'w').close()\nwhile not seen: time.sleep(0.02)\ntime.sleep(0.5)\n"
    trial += "open(sys.argv[1], 'w').write('saved' * len(seen)); sys.exit(130)"
    script = (
        "import os, signal, sys; from fdlab.sweeps import driver, grid, processes\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def start(self, trial): return str(self.wait([sys.executable, *sys.argv[1:-1]], dict(os.environ)))\n"
        "processes.Processes.__call__ = start\n"
        "trials = grid.plan(['seed=1,2', 'paths.runs=' + sys.argv[-1]])\n"
        "try: driver.run(trials)\n"
        "except KeyboardInterrupt: print('interrupted')\n"
    )
    command = [sys.executable, "-c", script, "-c", trial, str(tmp_path / "trial"), str(tmp_path / "runs")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, process_group=0) as parent:
        deadline = time.monotonic() + 60
        while not (tmp_path / "trial").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(parent.pid, signal.SIGINT)
        out, _ = parent.communicate(timeout=60)
    assert b"seed=1: failed: 130" in out and b"seed=2" not in out and out.endswith(b"interrupted\n")
    assert (tmp_path / "trial").read_text() == "saved"


def test_shards_are_trials_of_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["shard=0/3,1/3,2/3", "sampler.alpha=0.1,0.2", f"paths.runs={tmp_path}"]
    trials = grid.plan(words, "evaluate")
    assert len({trial.folder for trial in trials}) == 2 and len({trial.own for trial in trials}) == 6
    assert len({log_of(trial) for trial in trials}) == 6
    (whole,) = grid.plan(["sampler.alpha=0.1", f"paths.runs={tmp_path}"], "evaluate")
    assert whole.folder == whole.own == trials[0].folder
    together = threading.Barrier(3, timeout=30)

    def draws(trial: Trial) -> str:
        # All three draw at once, in one folder, as the verb does.
        with lock.running(trial.folder, shared=True):
            together.wait()
        return ""

    assert [
        one.error for one in driver.run([t for t in trials if t.folder == whole.folder], draws, jobs=3)
    ] == ["", "", ""]
    assert not any(trial.finished for trial in trials)
    # What has been joined is not drawn once more.
    write_record(whole, 0.5)
    assert [trial.finished for trial in trials] == [trial.folder == whole.folder for trial in trials]
    with pytest.raises(UserError, match="several combinations would write to"):
        grid.plan(["shard=0/3", "seed=1,2", "name=same"], "evaluate")


@pytest.mark.parametrize(
    ("words", "said"), [("4/4,1/4", "0/N to"), ("0/2,1/3", "of 2 and of 3 make no whole")]
)
def test_shares_that_make_no_whole_are_refused(words: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        grid.plan([f"shard={words}"], "evaluate")


def test_a_search_has_no_shards() -> None:
    pytest.importorskip("optuna")
    from fdlab.sweeps.asked import read

    with pytest.raises(UserError, match="a search goes by records, and a share has none"):
        read(["sampler.alpha=0.1,0.2", "shard=0/2"])
