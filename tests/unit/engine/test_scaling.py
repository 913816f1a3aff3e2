"""fp16 with the loss scaled, on torch's CPU scaler: steps, skipped steps, going on."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from fdlab.engine import checkpoints, loop, strategies
from fdlab.engine.finite import Diverged
from fdlab.engine.precision import SCALED, lightning_precision
from fdlab.errors import UserError
from tests.worlds.line import Line, train

ONCE = 3
"""The pass whose gradient is none."""


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"fp16": SCALED, "32": "32-true"}
    monkeypatch.setattr(loop, "lightning_precision", lambda precision, device: names[precision])


def small(module: Line, n: int, loss: torch.Tensor) -> torch.Tensor:
    """So small that the first scale is none too many."""
    return 0.05 * loss


def no_gradient(module: Line, n: int, loss: torch.Tensor) -> torch.Tensor:
    """The root of zero is zero, its slope is not."""
    none = (0 * module.network.bias).square().sum().sqrt()
    return 0.05 * loss + none if n == ONCE else 0.05 * loss


def always(module: Line, n: int, loss: torch.Tensor) -> torch.Tensor:
    return no_gradient(module, ONCE, loss)


def last(folder: Path) -> dict[str, Any]:
    return checkpoints.read(folder / "checkpoints/last.ckpt")


def norms(folder: Path) -> list[float]:
    with (folder / "metrics.csv").open() as stream:
        return [float(row["grad_norm"] or -1) for row in csv.DictReader(stream)]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_steps_are_those_of_fp32(tmp_path: Path, optimizer: str, accumulate: int) -> None:
    for precision in ("32", "fp16"):
        module = Line(small, lr=0.02, optimizer=optimizer)
        train(tmp_path / precision, module, precision=precision, accumulate=accumulate)
        assert (module.scaler is not None) == (precision == "fp16")
    # Unscaled before they are clipped and shown.
    assert norms(tmp_path / "fp16") == pytest.approx(norms(tmp_path / "32"), rel=5e-3)
    half, whole = last(tmp_path / "fp16"), last(tmp_path / "32")
    assert half["scaler"]["scale"] == 65536 and half["scaler"]["_growth_tracker"] == 6
    assert "scaler" not in whole
    for name in ("weight", "bias"):
        torch.testing.assert_close(half["parameters"][name], whole["parameters"][name], atol=5e-3, rtol=0)


def test_a_step_with_infinite_gradients_changes_nothing_but_the_scale(tmp_path: Path) -> None:
    for steps in (ONCE, ONCE + 1):
        train(tmp_path / str(steps), Line(no_gradient), precision="fp16", max_steps=steps)
    before, after = (last(tmp_path / str(steps)) for steps in (ONCE, ONCE + 1))
    assert (before["step"], after["step"]) == (ONCE, ONCE + 1)
    for part in ("parameters", "average"):
        for name in ("weight", "bias"):
            assert torch.equal(before[part][name], after[part][name])
    assert after["scaler"] == {**before["scaler"], "scale": 32768.0, "_growth_tracker": 0}
    assert norms(tmp_path / str(ONCE + 1)) == [*norms(tmp_path / str(ONCE)), -1]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_goes_on_with_its_scale(tmp_path: Path, optimizer: str) -> None:
    settings = {"precision": "fp16", "max_steps": ONCE + 4}
    train(tmp_path / "whole", Line(no_gradient, optimizer=optimizer), **settings)
    for steps in (ONCE + 2, ONCE + 4):
        module = Line(no_gradient, optimizer=optimizer)
        train(tmp_path / "parts", module, **{**settings, "max_steps": steps})
    whole, parts = last(tmp_path / "whole"), last(tmp_path / "parts")
    assert whole["scaler"] == parts["scaler"] and whole["scaler"]["scale"] == 32768
    for part in ("parameters", "average"):
        for name in ("weight", "bias"):
            assert torch.equal(whole[part][name], parts[part][name])


def test_what_no_scale_helps_has_diverged(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="the gradient is not finite at step 17"):
        train(tmp_path, Line(always), precision="fp16", max_steps=30)


@pytest.mark.parametrize("scaler", [{}, {"scale": "1"}, [1.0], {"scale": float("nan")}])
def test_a_scale_that_is_none_is_refused(tmp_path: Path, scaler: Any) -> None:
    train(tmp_path, Line(), precision="fp16", max_steps=1)
    path = tmp_path / "checkpoints/last.ckpt"
    state = last(tmp_path)
    torch.save({**state, "scaler": scaler}, path)
    with pytest.raises(checkpoints.Unreadable, match="no checkpoint"):
        checkpoints.read(path)


def test_what_scales_no_loss_says_so() -> None:
    with pytest.raises(UserError, match="is for GPUs, here is cpu; allowed: auto, 32, bf16"):
        lightning_precision("fp16", "cpu")
    assert lightning_precision("fp16", "cuda") == "16-mixed"
    with pytest.raises(UserError, match=r"does not go with trainer\.strategy=fsdp"):
        strategies.check("fsdp", "fp16")
