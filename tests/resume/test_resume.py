"""Stopped in whatever way, a run goes on and ends with the same bits."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from fdlab.config.compose import compose
from fdlab.engine import checkpoints
from fdlab.engine.continuing import find_checkpoint
from fdlab.engine.module import Training
from fdlab.errors import UserError
from fdlab.training.fit import FitResult, describe, fit
from fdlab.training.settings import FitSettings

Configure = Callable[..., Any]


@pytest.fixture
def configure(world: ModuleType, backbone_folder: Path, people_folder: Path, tmp_path: Path) -> Configure:
    def make(exp: str, *more: str) -> Any:
        released = world.RELEASED if exp == "sdm" else ()
        folders = (tmp_path, backbone_folder, people_folder)
        return compose([f"+exp={exp}", *world.overrides(*folders, *released, *more)])

    return make


@pytest.fixture(scope="module")
def whole(
    world: ModuleType, backbone_folder: Path, people_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The run directory of an SDM's four steps without any stop."""
    folders = (tmp_path_factory.mktemp("whole"), backbone_folder, people_folder)
    words = world.overrides(*folders, *world.RELEASED, "name=whole", "trainer.max_steps=4")
    return fit(compose(["+exp=sdm", *words])).run_dir


def state(run_dir: Path) -> dict[str, Any]:
    return checkpoints.read(run_dir / "checkpoints" / "last.ckpt")


def assert_equal(a: Any, b: Any, where: str = "") -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


def curve(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "metrics.csv").open() as stream:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(stream)]


def files(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


@pytest.mark.long
def test_killed_at_eight_moments_and_still_the_same_bits(
    backbone_folder: Path, people_folder: Path, tmp_path: Path
) -> None:
    script = Path(__file__).with_name("killed.py")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(["", str(script.parents[2])]),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(backbone_folder), str(people_folder)],
        capture_output=True,
        text=True,
        timeout=200,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report == {"killed": [True] * 8, "model_before_the_end": False, "ends": [0, 0]}, done.stderr
    killed, whole = (tmp_path / "runs" / "sdm" / name for name in ("killed", "whole"))
    assert_equal(state(killed), state(whole))
    assert files(killed / "model") == files(whole / "model")
    assert [row["step"] for row in curve(whole)] == ["3", "6", "9"]
    # A row's mean reaches back to the row before, or to where its process began.
    assert [row["step"] for row in curve(killed)] == ["3", "6", "9"]
    assert not list(killed.glob("checkpoints/.*"))


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch, send: signal.Signals) -> None:
    original = Training.training_step

    def patched(self: Training, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        if self.step == step:
            os.kill(os.getpid(), send)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(Training, "training_step", patched)


@pytest.mark.parametrize("send", [pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGTERM])
def test_a_signal_saves_before_it_stops(
    configure: Configure, whole: Path, monkeypatch: pytest.MonkeyPatch, send: signal.Signals
) -> None:
    cfg = configure("sdm", "name=stopped", "trainer.max_steps=4", "trainer.checkpoint_every=100")
    handler = signal.getsignal(send)
    with monkeypatch.context() as patch:
        stop_at(1, patch, send)
        with pytest.raises(KeyboardInterrupt, match="stopped after step 2"):
            fit(cfg)
    assert signal.getsignal(send) is handler
    stopped = fit(cfg)
    assert_equal(state(stopped.run_dir), state(whole))


def test_more_steps_go_on_and_finished_runs_do_nothing(configure: Configure) -> None:
    fit(configure("tdm", "name=a", "trainer.max_steps=2"))
    result = fit(configure("tdm", "name=a", "trainer.max_steps=5", "trainer.num_workers=1"))
    whole = fit(configure("tdm", "name=b", "trainer.max_steps=5"))
    assert_equal(state(result.run_dir), state(whole.run_dir))
    assert curve(result.run_dir) == curve(whole.run_dir)
    before = files(result.run_dir)
    again = fit(configure("tdm", "name=a", "trainer.max_steps=5"))
    assert again.seconds == 0 and again.steps == 5
    assert {n: b for n, b in files(again.run_dir).items() if "metrics" not in n} == {
        n: b for n, b in before.items() if "metrics" not in n
    }


@pytest.mark.long
def test_never_starts_anew_and_a_path_goes_on_from_there(configure: Configure) -> None:
    first = fit(configure("tdm", "name=a", "trainer.max_steps=4", "trainer.checkpoint_every=2"))
    from_two = fit(
        configure("tdm", "name=b", "trainer.max_steps=4", f"resume={first.run_dir}/checkpoints/step-2.ckpt")
    )
    assert_equal(state(from_two.run_dir), state(first.run_dir))
    anew: FitResult = fit(configure("tdm", "name=a", "trainer.max_steps=1", "resume=never"))
    assert sorted(p.name for p in (anew.run_dir / "checkpoints").iterdir()) == ["last.ckpt", "step-1.ckpt"]
    assert [row["step"] for row in curve(anew.run_dir)] == ["1"]


def test_bad_checkpoints_are_one_clear_line(configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint there"):
        find_checkpoint(tmp_path, str(tmp_path / "none.ckpt"))
    broken = tmp_path / "broken.ckpt"
    broken.write_bytes(b"PK nothing")
    with pytest.raises(UserError, match=r"broken\.ckpt' cannot be read"):
        fit(configure("tdm", "name=x", f"resume={broken}"))
    tdm = fit(configure("tdm", "name=a", "trainer.max_steps=1"))
    with pytest.raises(UserError, match="is of TDM, this run trains SDM"):
        fit(configure("sdm", "name=y", f"resume={tdm.run_dir}"))
    with pytest.raises(UserError, match="is of TDM, this run trains SDM"):
        describe(FitSettings.read(configure("sdm", "name=y", f"resume={tdm.run_dir}")))


@pytest.mark.long
def test_a_checkpoint_of_another_architecture_names_what_differs(configure: Configure) -> None:
    first = fit(configure("sdm", "name=a", "trainer.max_steps=1"))
    with pytest.raises(UserError, match="another architecture: only the model has 'image_encoder"):
        fit(configure("sdm", "name=b", "model.train_image_blocks=3", f"resume={first.run_dir}"))
    path = first.run_dir / "checkpoints" / "last.ckpt"
    content = checkpoints.read(path)
    name = next(iter(content["parameters"]))
    content["parameters"][name] = torch.zeros(3)
    torch.save(content, path)
    with pytest.raises(UserError, match=rf"another architecture: '{name}' is \(3,\) in it"):
        fit(configure("sdm", "name=a", "trainer.max_steps=2"))


@pytest.mark.long
def test_muon_goes_on_with_the_same_bits_too(configure: Configure, whole: Path) -> None:
    muon = ("model.optimizer=muon", "model.lr=0.01")
    fit(configure("sdm", "name=a", "trainer.max_steps=2", *muon))
    result = fit(configure("sdm", "name=a", "trainer.max_steps=4", *muon))
    at_once = fit(configure("sdm", "name=b", "trainer.max_steps=4", *muon))
    assert_equal(state(result.run_dir), state(at_once.run_dir))
    assert files(whole / "model") != files(at_once.run_dir / "model")
