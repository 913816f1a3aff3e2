"""Adafactor: a step by its formula, and a run that goes on with the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fdlab.engine import checkpoints
from fdlab.engine.precision import tf32
from fdlab.errors import UserError
from tests.worlds.line import Line, train


def mean_square_root(values: torch.Tensor) -> torch.Tensor:
    return values.square().mean().sqrt()


def test_a_step_is_as_published() -> None:
    """Shazeer & Stern 2018, algorithm 4 and section 8, at the first step: beta2 is 0."""
    module = Line(lr=0.01, optimizer="adafactor")
    weight, bias = module.network.weight, module.network.bias
    gradients = torch.randn(2, 4, generator=torch.manual_seed(1)), torch.tensor([0.5, -2.0])
    before = weight.detach().clone(), bias.detach().clone()
    weight.grad, bias.grad = (g.clone() for g in gradients)
    module.configure_optimizers().step()
    square = gradients[0].square()
    row, column = square.mean(1, keepdim=True), square.mean(0, keepdim=True)
    for parameter, old, gradient, variance in (
        (weight, before[0], gradients[0], row * column / row.mean()),
        (bias, before[1], gradients[1], gradients[1].square()),
    ):
        update = gradient / variance.sqrt()
        update = update / max(1.0, float(mean_square_root(update)))
        size = max(1e-3, float(mean_square_root(old)))
        torch.testing.assert_close(parameter.detach(), old * (1 - 0.01 * 0.01) - 0.01 * size * update)


def test_a_run_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    train(tmp_path / "whole", Line(optimizer="adafactor"), max_steps=4)
    train(tmp_path / "halves", Line(optimizer="adafactor"), max_steps=2)
    train(tmp_path / "halves", Line(optimizer="adafactor"), max_steps=4)
    whole, halves = (
        checkpoints.read(tmp_path / name / "checkpoints/last.ckpt") for name in ("whole", "halves")
    )
    assert set(whole["optimizer"]["weight"]) == {"step", "row_var", "col_var"}
    for table in ("parameters", "average"):
        assert all(torch.equal(halves[table][name], t) for name, t in whole[table].items())
    for name, slots in whole["optimizer"].items():
        assert all(torch.equal(halves["optimizer"][name][slot], t) for slot, t in slots.items())
    with pytest.raises(UserError, match="of another optimiser than adamw"):
        checkpoints.check(whole, Line(), tmp_path)
    whole["optimizer"]["weight"]["row_var"] = torch.zeros(4, 2)
    with pytest.raises(UserError, match=r"damaged: 'weight' \(row_var\)"):
        checkpoints.check(whole, Line(optimizer="adafactor"), tmp_path)


def test_tf32_holds_inside_alone() -> None:
    before = torch.backends.cuda.matmul.fp32_precision
    for allowed, inside in ((True, "tf32"), (False, before)):
        with tf32(allowed):
            assert torch.backends.cuda.matmul.fp32_precision == inside
        assert torch.backends.cuda.matmul.fp32_precision == before
