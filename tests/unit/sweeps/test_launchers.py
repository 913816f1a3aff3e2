"""Trials as jobs of a cluster: through submitit's own local executor, and on a Ray cluster of two nodes."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fdlab.__main__ import main
from fdlab.errors import UserError
from fdlab.sweeps import driver, launchers, slurm
from fdlab.sweeps.command import Command
from fdlab.sweeps.processes import Processes
from fdlab.sweeps.trial import Trial

PROGRAM = """
import json, os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.default_int_handler)
what, folder = sys.argv[1], pathlib.Path(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
if what == "fails":
    pathlib.Path(os.environ["FDLAB_ERROR_FILE"]).write_text("error: out of memory.\\n")
    sys.exit(1)
if what == "dies":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "sleeps":
    time.sleep(2)
if what == "waits" and not (folder / "saved").exists():
    (folder / "begun").touch()
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        (folder / "saved").touch()
        sys.exit(130)
(folder / "model").mkdir(exist_ok=True)
"""


def trial(folder: Path, what: str) -> Trial:
    where = folder / what
    return Trial([what, str(where)], {"what": what}, where, measured=False)


@pytest.fixture
def stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial is a little script in place of a training."""
    script = tmp_path / "trial.py"
    script.write_text(PROGRAM)
    monkeypatch.setattr(
        Command,
        "of",
        lambda trial, environment=None: Command(
            trial.overrides, trial.folder.with_name("log"), environment or {}, (sys.executable, str(script))
        ),
    )


def settings(*words: str) -> dict[str, Any]:
    return launchers.split(words)[1]


def test_words_about_the_launcher_are_taken_out() -> None:
    rest, found = launchers.split(["seed=1,2", "launcher=slurm", "launcher.minutes=60", "launchers=x"])
    assert rest == ["seed=1,2", "launchers=x"] and (found["kind"], found["minutes"]) == ("slurm", 60)
    assert launchers.split(["seed=1"]) == (["seed=1"], {"kind": "local"})
    for word, said in (("launcher=slrum", "Did you mean 'slurm'"), ("launcher.minuts=3", "launcher.minuts")):
        with pytest.raises(UserError, match=said):
            launchers.split(["launcher=slurm", word] if "." in word else [word])
    assert isinstance(launchers.make({"kind": "local"}, 2, Path()), Processes)


@pytest.mark.parametrize("kind", ["slurm", "ray"])
def test_what_is_not_installed_is_said(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, {"slurm": "submitit", "ray": "ray"}[kind], None)
    with pytest.raises(UserError, match=rf"pip install 'fdlab\[{kind}\]'"):
        launchers.make(settings(f"launcher={kind}"), 1, tmp_path)


@pytest.mark.parametrize("words", [["sweep", "sampler.alpha=0.1,0.2"], ["evaluate", "-m", "seed=1,2"]])
def test_a_dry_run_looks_at_the_launcher(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert main([*words, "--dry", "launcher=slurm", f"paths.runs={tmp_path}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "error: launcher=slurm needs submitit: pip install 'fdlab[slurm]'."
    assert not list(tmp_path.iterdir())


def test_without_slurm_it_says_so(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    with pytest.raises(UserError, match="has to be called where `sbatch` is"):
        launchers.make(settings("launcher=slurm"), 1, tmp_path)


def test_the_batch_file_asks_for_what_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    from submitit.slurm.slurm import SlurmExecutor

    monkeypatch.setattr(SlurmExecutor, "affinity", classmethod(lambda cls: 2))
    words = ["launcher=slurm", "launcher.partition=gpu", "launcher.minutes=90", "launcher.gpus=2"]
    words += ["launcher.memory=48", "launcher.setup=[module load cuda]", "launcher.constraint=a100"]
    made = slurm.executor(settings(*words), 3, tmp_path)
    inside = made._executor
    text = inside._make_submission_file_text("run", "id")
    for line in (
        "--partition=gpu", "--time=90", "--gpus-per-node=2", "--cpus-per-task=8", "--mem=48GB",
        "--constraint=a100", "--signal=USR2@150", "--job-name=fdlab", "module load cuda",
    ):  # fmt: skip
        assert line in text, line
    assert inside.max_num_timeout == 10 and "--account" not in text
    assert inside.parameters["array_parallelism"] == 3


@pytest.mark.services
def test_a_grid_runs_as_an_array_and_every_end_is_one_line(tmp_path: Path, stands_in: None) -> None:
    pytest.importorskip("submitit")
    runs = launchers.make(settings("launcher=slurm", "launcher.cluster=local"), 4, tmp_path / "jobs")
    trials = [trial(tmp_path, what) for what in ("ends", "fails", "dies", "waits")]
    (tmp_path / "waits").mkdir()
    threading.Thread(target=_interrupts, args=(tmp_path / "waits" / "begun", runs, trials[-1])).start()
    ends = [outcome.error for outcome in driver.run(trials, launcher=runs)]
    assert ends[:3] == ["", "out of memory.", "killed by SIGKILL"]
    assert ends[3].startswith("job ") and "ended without an answer" in ends[3]
    assert trials[0].finished
    # Again: what is finished is not submitted once more.
    again = launchers.make(settings("launcher=slurm", "launcher.cluster=local"), 4, tmp_path / "more")
    assert driver.run(trials[:1], launcher=again)[0].error == ""
    assert not [path for path in (tmp_path / "more").rglob("*") if path.is_file()]


def test_a_job_that_nobody_waits_for_yet_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "executor", lambda *_: None)
    runs = slurm.SlurmJobs(settings("launcher=slurm"), 1, tmp_path)
    cancelled: list[str] = []

    class Job:
        def __init__(self, name: str) -> None:
            self.name = name

        def cancel(self, check: bool) -> None:
            cancelled.append(self.name)

    ready, alive, other = (trial(tmp_path, what) for what in ("ends", "fails", "dies"))
    runs._ready, runs._alive = {ready.own: Job("ready")}, {alive.own: Job("alive")}
    for which in (ready, alive, other):
        runs.stop(which)
    assert cancelled == ["ready", "alive"]


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _interrupts(begun: Path, runs: launchers.Launcher, which: Trial) -> None:
    until(begun.exists)
    runs.stop(which)


@pytest.mark.services
def test_a_job_whose_time_is_over_saves_and_is_put_back(tmp_path: Path, stands_in: None) -> None:
    pytest.importorskip("submitit")
    waits = trial(tmp_path, "waits")
    job = slurm.Job(Command.of(waits), 30)
    said: list[str] = []
    working = threading.Thread(target=lambda: said.append(job()))
    working.start()
    while not (waits.folder / "begun").exists():
        time.sleep(0.02)
    back = job.checkpoint()
    working.join(30)
    assert (waits.folder / "saved").exists() and said[0].startswith("interrupted")
    # The job that is put back is the same command, which now goes on to its end.
    assert back.function() == "" and waits.finished


@pytest.mark.services
def test_ray_trials_outlive_a_node(tmp_path: Path, stands_in: None) -> None:
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        node = cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False)
        chosen = settings("launcher=ray", "launcher.cpus=1")
        with pytest.raises(UserError, match="no node has so much; there are 1 cores"):
            launchers.make({**chosen, "cpus": 64}, 2, tmp_path)
        runs = launchers.make(chosen, 2, tmp_path)
        slow = [Trial(["sleeps", str(tmp_path / f"s{k}")], {}, tmp_path / f"s{k}", False) for k in range(4)]
        trials = [trial(tmp_path, "ends"), trial(tmp_path, "fails"), *slow]
        threading.Timer(2.0, cluster.remove_node, (node,)).start()
        ends = [outcome.error for outcome in driver.run(trials, jobs=2, launcher=runs)]
        assert ends == ["", "out of memory.", "", "", "", ""]
        assert all(one.finished for one in slow)
        waits = trial(tmp_path, "waits")
        threading.Thread(target=_interrupts, args=(waits.folder / "begun", runs, waits)).start()
        assert runs(waits).startswith("interrupted")
        until((waits.folder / "saved").exists)
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.services
def test_shards_on_ray_outlive_a_node_and_join_to_the_same_evaluation(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    words = ["benchmark=people_validation", "benchmark.max_subjects=2", "benchmark.max_prompts=4"]
    words += ["benchmark.max_images=1", "benchmark.batch_size=1", "benchmark.baselines=false"]
    words += ["sampler=tdm", "sampler.num_steps=4", "trainer.accelerator=cpu"]
    shared, alone = (f"paths.runs={tmp_path / name}" for name in ("shared", "alone"))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        node = cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False)
        removing = threading.Thread(target=_removes, args=(cluster, node, tmp_path / "shared"))
        removing.start()
        ray_words = ["launcher=ray", "launcher.cpus=1", "jobs=4"]
        assert main(["evaluate", "-m", "shard=0/4,1/4,2/4,3/4", *words, shared, *ray_words]) == 0
        removing.join()
        assert sum(one["Alive"] for one in ray.nodes()) == 1
    finally:
        ray.shutdown()
        cluster.shutdown()
    drawn = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "shared").rglob("images/*.png")}
    assert len(drawn) == 8 and not list((tmp_path / "shared").rglob("record.json"))
    for runs in (shared, alone):
        assert main(["evaluate", *words, runs]) == 0
    pictures = {
        name: {path.name: path for path in (tmp_path / name).rglob("images/*.png")}
        for name in ("shared", "alone")
    }
    assert {name: path.stat().st_mtime_ns for name, path in pictures["shared"].items()} == drawn
    for name, path in pictures["alone"].items():
        assert path.read_bytes() == pictures["shared"][name].read_bytes()
    one, other = (
        json.loads(next((tmp_path / name).rglob("record.json")).read_text())["metrics"]
        for name in ("shared", "alone")
    )
    assert one == other


def _removes(cluster: Any, node: Any, folder: Path) -> None:
    """Remove a node once the first picture is there."""
    deadline = time.monotonic() + 400
    while not list(folder.rglob("images/*.png")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    cluster.remove_node(node)


def test_a_command_can_be_sent(tmp_path: Path) -> None:
    cloudpickle = pytest.importorskip("cloudpickle")
    sent = cloudpickle.loads(
        cloudpickle.dumps(Command(["-c", "print(7)"], tmp_path / "log", {}, (sys.executable,)))
    )
    assert sent() == "" and json.loads((tmp_path / "log").read_text()) == 7
