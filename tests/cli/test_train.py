"""`fdlab train` from the command line to the run directory, on a backbone of random weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fdlab.__main__ import main
from tests.worlds.holder import held


def test_dry_says_what_would_happen_and_touches_nothing(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "+exp=sdm", *tiny, f"paths.runs={tmp_path}", "--dry"]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("parameters", "steps", "memory"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("experiment", ["sdm", pytest.param("tdm", marks=pytest.mark.long)])
def test_a_run_leaves_what_the_contract_says(
    experiment: str, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [f"+exp={experiment}", *tiny, f"paths.runs={tmp_path}", "name=x"]
    assert main(["train", *overrides]) == 0
    folder = tmp_path / experiment / "x"
    for name in ("config.yaml", "overrides.yaml", "environment.json", "metrics.csv", "checkpoints/last.ckpt"):
        assert (folder / name).is_file(), name
    assert list((folder / "samples").glob("*.png"))
    assert (folder / "model" / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    assert not [p for p in (folder / "model").rglob("*") if p.suffix in (".bin", ".ckpt", ".pt", ".pkl")]
    assert str(folder / "metrics.csv") in capsys.readouterr().out


@pytest.mark.long
def test_a_grid_lists_a_failure_goes_on_and_repeats_nothing(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from fdlab.config.compose import compose
    from fdlab.config.naming import run_dir

    (bad := tmp_path / "bad").mkdir()
    overrides = ["+exp=tdm", *tiny, f"paths.runs={tmp_path / 'runs'}"]
    done_before = run_dir(compose([*overrides, "init=base"]))
    (done_before / "model").mkdir(parents=True)
    assert main(["train", "-m", *overrides, f"init={bad},base"]) == 1
    shown = capsys.readouterr().out
    assert f"[2/2] init=base: finished before ({done_before})" in shown
    assert f"FAILED: '{bad}' holds no part of a model" in shown
    assert "1 of 2 trials done, 1 failed" in shown


def test_what_the_evaluation_needs_is_looked_for_before_the_training(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["+exp=sdm", *tiny, "evaluate=true", f"paths.runs={tmp_path}"]
    assert main(["train", *overrides, "sampler.guider=snff", "tdm=base"]) == 2
    assert "Did you mean 'snf'?" in capsys.readouterr().err
    assert main(["train", *overrides]) == 2
    assert "ships no TDM; give tdm=FOLDER" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_wandb_keeps_curves_and_grids_offline(tiny: list[str], tmp_path: Path) -> None:
    line = ["train", "+exp=tdm", *tiny, f"paths.runs={tmp_path}", "name=x", "logger=wandb"]
    command = [sys.executable, "-m", "fdlab", *line, "logger.mode=offline", "trainer.sample_every=1"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (run,) = (tmp_path / "tdm" / "x" / "wandb").rglob("run-*.wandb")
    assert b"loss" in run.read_bytes()
    assert list(run.parent.rglob("media/images/samples_*.png"))


def test_a_training_that_diverges_fails_and_leaves_no_model(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["+exp=sdm", *tiny, f"paths.runs={tmp_path}", "name=x", "model.lr=1e18"]
    assert main(["train", *overrides, "trainer.max_steps=9", "trainer.sample_every=0"]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "training diverged" in line and " at step " in line and "(batch: 0" in line
    folder = tmp_path / "sdm" / "x"
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    assert not any((folder / name).exists() for name in ("model", "evaluation", "report.html"))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("trainer.accelerator=gpu", "trainer.accelerator=gpu, but no GPU is here; allowed: auto, cpu"),
        ("trainer.accelerator=gpuu", "gpuu"),
        ("trainer.strategy=ddpp", "Did you mean 'ddp'"),
        ("trainer.strategy=zero2", "does not go with model.optimizer=muon"),
        ("trainer.nodes=2", "started by torchrun or srun"),
        ("trainer.devices=none", "trainer.devices=none"),
        ("trainer.precision=16", "16"),
        ("data.kind=webdataset data.root=nowhere", "data folder 'nowhere' does not exist"),
    ],
)
@pytest.mark.parametrize("flags", [["--dry"], []])
def test_what_this_machine_cannot_do_is_said_before_anything_is_loaded(
    override: str, said: str, flags: list[str], tiny: list[str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("fdlab.training.initial.load_start", pytest.fail)
    overrides = ["+exp=sdm", *tiny, f"paths.runs={tmp_path}", *override.split()]
    assert main(["train", *overrides, *flags]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert said in line


def test_wandb_without_a_key_is_one_line_before_the_training(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for key in [key for key in os.environ if key.startswith("WANDB")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("HOME", str(tmp_path))
    line = ["train", "+exp=tdm", *tiny, f"paths.runs={tmp_path}", "name=x", "logger=wandb"]
    assert main(line) == 2
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "logger.mode=offline" in said and not (tmp_path / "tdm" / "x" / "metrics.csv").exists()
    import wandb

    # It remembers, for the rest of the process, what the environment said.
    wandb.teardown()


def test_a_run_that_another_process_works_on_is_refused_with_its_holder(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [*tiny, f"paths.runs={tmp_path}", "name=x"]
    with held(tmp_path / "tdm" / "x") as pid:
        assert main(["train", "+exp=tdm", *overrides]) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
        assert f"in use by process {pid} on " in line and "name=" in line
    assert [p.name for p in (tmp_path / "tdm" / "x").iterdir()] == [".lock"]


@pytest.mark.long
@pytest.mark.parametrize("init", ["base", "scratch"])
def test_what_ships_trains_from_the_base_with_a_new_fusion(
    init: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "+exp=sdm", f"init={init}", "trainer=smoke", "--dry"]) == 0
    assert "of which" in capsys.readouterr().out


def test_a_base_cannot_be_evaluated_as_an_sdm(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "sdm=base", "sampler=sdm", "--dry"]) == 2
    assert "no fusion" in capsys.readouterr().err


def test_a_training_that_is_refused_leaves_no_run_directory(tiny: list[str], tmp_path: Path) -> None:
    line = ["train", "+exp=tdm", *tiny, f"paths.runs={tmp_path / 'runs'}", "name=x"]
    assert main([*line, "model.train_text_encoder=true", "data.cache_text=true"]) == 2
    assert list(tmp_path.iterdir()) == []
    # What is somebody's stays, if it is an empty folder.
    (tmp_path / "runs").mkdir()
    assert main([*line, "model.train_text_encoder=true", "data.cache_text=true"]) == 2
    assert (tmp_path / "runs").is_dir() and not list((tmp_path / "runs").iterdir())
    (tmp_path / "runs/tdm/x").mkdir(parents=True)
    assert main([*line, "model.train_text_encoder=true", "data.cache_text=true"]) == 2
    assert (tmp_path / "runs/tdm/x/config.yaml").is_file()
