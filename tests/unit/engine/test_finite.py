"""A training that turns infinite or none stops before the step, and keeps the state before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fdlab.engine import checkpoints
from fdlab.engine.finite import Diverged, traced
from fdlab.errors import UserError
from tests.worlds.line import Line, train


def spoiled(kind: str, at: int) -> Any:
    def spoil(module: Line, n: int, loss: torch.Tensor) -> torch.Tensor:
        if n != at:
            return loss
        if kind == "gradient":
            # The root of zero is zero, its slope is not.
            return loss + (0 * module.network.bias).square().sum().sqrt()
        return loss * 0 + float(kind) if kind != "inf with a gradient" else loss + torch.tensor(torch.inf)

    return spoil


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    else:
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize("kind", ["nan", "inf", "inf with a gradient", "gradient"])
@pytest.mark.parametrize("settings", [{}, {"accumulate": 2}, {"precision": "bf16"}])
def test_nothing_of_a_bad_step_is_applied(tmp_path: Path, kind: str, settings: dict[str, Any]) -> None:
    passes = settings.get("accumulate", 1)
    bad = 3 * passes
    shown = f"p{bad}" if kind != "gradient" else ", ".join(f"p{bad + i}" for i in range(passes))
    with pytest.raises(Diverged, match=rf"at step 4 \(batch: {shown}\)\. .*state before it is in last\.ckpt"):
        train(tmp_path / "bad", Line(spoiled(kind, bad)), **settings)
    train(tmp_path / "good", Line(spoiled("nan", -1)), max_steps=3, **settings)
    kept = checkpoints.read(tmp_path / "bad/checkpoints/last.ckpt")
    assert_same(kept, checkpoints.read(tmp_path / "good/checkpoints/last.ckpt"))
    assert sorted(p.name for p in (tmp_path / "bad/checkpoints").iterdir()) == [
        "last.ckpt", "step-2.ckpt", "step-3.ckpt",
    ]  # fmt: skip
    # What spoiled it gone, it goes on from there and ends as if nothing had been.
    train(tmp_path / "bad", Line(spoiled("nan", -1)), **settings)
    train(tmp_path / "whole", Line(spoiled("nan", -1)), **settings)
    ends = [checkpoints.read(tmp_path / name / "checkpoints/last.ckpt") for name in ("bad", "whole")]
    assert_same(*ends)


@pytest.mark.parametrize("every", [1, 2])
def test_weights_that_a_step_made_infinite_are_not_kept(tmp_path: Path, every: int) -> None:
    with pytest.raises(Diverged, match=r"after step 1 '(weight|bias)' is not finite"):
        train(tmp_path, Line(lr=1e39), checkpoint_every=every)
    assert not list((tmp_path / "checkpoints").glob("*"))


def test_the_first_step_of_all_may_be_the_bad_one(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"at step 1 .*nothing had been learned"):
        train(tmp_path, Line(spoiled("nan", 0)))
    assert not list(tmp_path.glob("checkpoints/*"))


def test_a_good_loss_is_left_as_it_is() -> None:
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0), requires_grad=True)
    for dtype in (torch.float32, torch.bfloat16):
        plain, told = x.to(dtype).exp().mean(), traced(x.to(dtype).exp().mean())
        assert torch.equal(plain, told)
        a, b = (torch.autograd.grad(loss, x)[0] for loss in (plain, told))
        assert torch.equal(a, b)


@pytest.mark.parametrize("place", ["parameters", "average", "optimizer"])
def test_a_state_that_is_not_finite_is_not_gone_on_with(tmp_path: Path, place: str) -> None:
    train(tmp_path, Line(), max_steps=2)
    path = tmp_path / "checkpoints/last.ckpt"
    state = checkpoints.read(path)
    table = state[place]["bias"] if place == "optimizer" else {"exp_avg": state[place]["bias"]}
    table["exp_avg"][1] = torch.nan
    path.unlink()
    torch.save(state, path)
    with pytest.raises(UserError, match=r"bias.*not finite") as refused:
        train(tmp_path / "other", Line(), resume=str(path))
    assert f"resume={path.with_name('step-2.ckpt')}" in str(refused.value)
