"""The small networks' training: for steps or for minutes, stopped and gone on with."""

from __future__ import annotations

import csv
import itertools
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fdlab.engine import checkpoints
from fdlab.engine.callbacks import clock, curves
from fdlab.pretraining import small
from fdlab.pretraining.small import Length, LossStep, SmallTraining, report, train


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(2, 6, 3), nn.GroupNorm(2, 6), nn.Flatten(), nn.Linear(24, 3))


def loss_of(module: nn.Module, step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    x = torch.randn(4, 2, 4, 4, generator=torch.Generator().manual_seed(step))
    loss = (module(x) - x.mean(dim=(2, 3)).sum(1, keepdim=True)).square().mean()
    return loss, {"part": loss.detach()}


def training(seed: int = 0, at: int = -1) -> SmallTraining:
    """One that sends itself a signal in the step `at`."""
    module = network(seed)

    def loss_step(step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        if step == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss_of(module, step)

    return SmallTraining(module, loss_step, lr=0.03)


@pytest.fixture
def hundredths(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that gains a hundredth of a second whenever it is looked at: once a step, and for rows."""
    count = itertools.count()
    watch = SimpleNamespace(monotonic=lambda: next(count) / 100)
    for module in (clock, curves):
        monkeypatch.setattr(module, "time", watch)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as stream:
        return list(csv.DictReader(stream))


@pytest.mark.usefixtures("hundredths")
def test_it_runs_for_its_minutes_lowers_the_loss_and_ends_annealed(tmp_path: Path) -> None:
    made = training()
    with made.averaged():
        before = loss_of(made.network, 10_000)[0].item()
    assert train(made, tmp_path, Length(minutes=0.05), bf16=False, every=10)
    with made.averaged():
        assert not made.network.training
        assert loss_of(made.network, 10_000)[0].item() < 0.7 * before
    assert made.network.training
    found = rows(tmp_path)
    assert {"step", "seconds", "lr", "loss", "part"} <= set(found[0])
    assert (
        2.99 <= float(found[-1]["seconds"]) < 3.1
        and 250 < made.step < 300
        and int(found[-1]["step"]) == made.step
    )
    assert float(found[-1]["lr"]) < 0.02 * max(float(row["lr"]) for row in found)
    assert report(made, tmp_path) == {"steps": made.step, "minutes": float(found[-1]["seconds"]) / 60}
    # Its time is over, for another process as well.
    again = training()
    assert train(again, tmp_path, Length(minutes=0.05), bf16=False, every=10)
    assert again.step == made.step and rows(tmp_path) == found


def test_a_signal_stops_it_with_its_state_saved_and_it_goes_on_to_the_bit(tmp_path: Path) -> None:
    length, before = Length(5, steps=12), signal.getsignal(signal.SIGTERM)
    assert train(training(at=7), tmp_path / "parts", length, every=4) is False
    assert signal.getsignal(signal.SIGTERM) is before
    assert checkpoints.read(tmp_path / "parts/checkpoints/last.ckpt")["step"] == 8
    parts, whole = training(seed=9), training()
    assert train(parts, tmp_path / "parts", length, every=4)
    assert train(whole, tmp_path / "whole", length, every=4)
    for name, parameter in whole.trainable_parameters().items():
        assert torch.equal(parameter, parts.trainable_parameters()[name])
        assert torch.equal(whole.averaging.average[name], parts.averaging.average[name])


@pytest.mark.usefixtures("hundredths")
def test_a_run_by_the_clock_that_is_gone_on_with_counts_the_time_before(tmp_path: Path) -> None:
    assert train(training(at=9), tmp_path, Length(minutes=5), bf16=False, every=5) is False
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    cells = lines[-1].split(",")
    assert cells[0] == "10"
    (tmp_path / "metrics.csv").write_text(
        "\n".join([*lines[:-1], ",".join([cells[0], "299", *cells[2:]]), ""])
    )
    made = training()
    assert train(made, tmp_path, Length(minutes=5), bf16=False, every=5)
    assert 90 < made.step < 120 and 299.9 <= float(rows(tmp_path)[-1]["seconds"]) < 300.1


@pytest.mark.parametrize("bf16", [True, False])
def test_the_forward_pass_is_in_bf16_where_asked(tmp_path: Path, bf16: bool) -> None:
    module, seen = network(), []

    def loss_step(step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        seen.append(module(torch.zeros(1, 2, 4, 4)).dtype)
        return loss_of(module, step)

    step: LossStep = loss_step
    assert train(SmallTraining(module, step, 0.03), tmp_path, Length(1, steps=1), bf16)
    assert seen == [torch.bfloat16 if bf16 else torch.float32]
    assert small.CURVES == "metrics.csv"
