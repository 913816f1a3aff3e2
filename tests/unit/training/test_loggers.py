"""Weights & Biases, offline: which group a run is of, and under which id it goes on. TensorBoard's files."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fdlab.config.compose import compose
from fdlab.errors import UserError
from fdlab.sweeps import grid
from fdlab.sweeps.asked import read
from fdlab.sweeps.trial import Trial
from fdlab.training.loggers import LoggerSettings, check, make_loggers

OFFLINE = ("logger=wandb", "logger.mode=offline")


def records(path: Path) -> Iterator[Any]:
    """What an offline run's file holds: protobuf messages in LevelDB's log format, behind 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, message, block = path.read_bytes(), 7, b"", 32768
    while place + 7 <= len(data):
        if block - place % block < 7:
            place += block - place % block
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        message += data[place + 7 : place + 7 + length]
        place += 7 + length
        # A message is whole, or begins, goes on and ends.
        if kind in (1, 4):
            record = Record()
            record.ParseFromString(message)
            yield record
            message = b""


def runs_of(folder: Path) -> list[Any]:
    """What every offline run below a folder says of itself first."""
    files = sorted(folder.rglob("run-*.wandb"))
    return [next(r.run for r in records(file) if r.WhichOneof("record_type") == "run") for file in files]


def test_a_run_goes_on_under_its_own_id_in_its_group(tmp_path: Path) -> None:
    wandb = pytest.importorskip("wandb")
    for name in ("one", "two", "one"):
        settings = LoggerSettings(True, "p", "offline", "sdm", name, "the search")
        (logger,) = make_loggers(settings, tmp_path / name, {"seed": 1})
        logger.log_metrics({"loss": 0.5}, step=1)
        logger.experiment.finish()
    wandb.teardown()
    one, two = runs_of(tmp_path / "one"), runs_of(tmp_path / "two")
    assert [(run.run_id, run.run_group) for run in one] == [("sdm-one", "the search")] * 2
    assert [(run.run_id, run.run_group) for run in two] == [("sdm-two", "the search")]


def group_of(trial: Trial) -> str | None:
    return LoggerSettings.read(
        compose(trial.overrides, config_name=trial.verb.replace("train", "config"))
    ).group


def test_trials_of_a_grid_are_one_group_unless_one_was_given(tmp_path: Path) -> None:
    words = ["+exp=sdm", f"paths.runs={tmp_path}"]
    trials = grid.plan([*words, "seed=1,2", *OFFLINE])
    (group,) = {group_of(trial) for trial in trials}
    assert group is not None and group.startswith("grid-seed-")
    # More of the same is the same grid; another is not, and what is given stays.
    assert {group_of(trial) for trial in grid.plan([*words, "seed=1,2,3", *OFFLINE])} == {group}
    assert group_of(grid.plan([*words, "seed=1,2", "model.clip=2", *OFFLINE])[0]) != group
    assert group_of(grid.plan([*words, "seed=1,2", *OFFLINE, "logger.group='my own'"])[0]) == "my own"
    # It is no part of what a trial is.
    plain = grid.plan([*words, "seed=1,2"])
    assert [trial.folder for trial in trials] == [trial.folder for trial in plain]
    assert not any("logger.group" in word for trial in plain for word in trial.overrides)
    assert LoggerSettings.read(compose(["+exp=sdm"])).group is None


def test_trials_of_a_search_are_one_group(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna")
    from tests.unit.sweeps.test_search import planted, work

    seen: list[Trial] = []
    words = ["sampler.alpha=0.1,0.2", "sampler.guidance_scale=2,3", "sweep=grid", "sweep.name=both"]
    study = read([*words, f"paths.runs={tmp_path}", *OFFLINE])[1]
    work(study, lambda trial: seen.append(trial) or planted(trial))
    assert len(seen) == 4 and {group_of(trial) for trial in seen} == {study.folder.name} == {"both"}


def test_the_other_processes_of_a_training_log_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    settings = LoggerSettings.read(compose(["+exp=sdm", *OFFLINE]))
    (logger,) = make_loggers(settings, tmp_path, {"seed": 1})
    logger.log_metrics({"loss": 1.0}, step=1)
    assert not list(tmp_path.rglob("*.wandb"))


def test_tensorboard_shows_a_resumed_run_once(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    settings = LoggerSettings.read(compose(["+exp=sdm", "logger=tensorboard"]))
    picture = tmp_path / "grid.png"
    Image.new("RGB", (6, 4), (200, 100, 0)).save(picture)
    for steps, stopped in ((range(1, 5), None), (range(3, 6), 2)):
        (logger,) = make_loggers(settings, tmp_path / "run", {})
        if stopped is not None:
            logger.goes_on_at(stopped)
        for step in steps:
            logger.log_metrics({"loss": step / 10 if stopped is None else step}, step=step)
        logger.log_image("samples", [str(picture)], step=max(steps))
        logger.finalize("success")
    (logger,) = make_loggers(settings, tmp_path / "run", {})
    metrics = {"identity_auc": {"value": 0.75}}
    logger.log_final(metrics, "| method |", [("a figure", picture)])
    logger.finalize("success")
    found = accumulator.EventAccumulator(str(tmp_path / "run/tensorboard"))
    found.Reload()
    curve = [(event.step, event.value) for event in found.Scalars("loss")]
    assert curve == [(1, pytest.approx(0.1)), (2, pytest.approx(0.2)), (3, 3), (4, 4), (5, 5)]
    assert [event.value for event in found.Scalars("evaluation/identity_auc")] == [0.75]
    assert (found.Images("samples")[-1].width, found.Images("evaluation/grid")[0].height) == (6, 4)
    assert found.Tensors("evaluation/table/text_summary")


def test_tensorboard_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs TensorBoard: pip install 'fdlab\[tensorboard\]'"):
        check(LoggerSettings.read(compose(["+exp=sdm", "logger=tensorboard"])))
