"""Optimisers: a step by its formula, and runs that go on with the same bits."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fdlab.engine import checkpoints, optimizers
from fdlab.engine.draws import Draws
from fdlab.engine.module import Losses
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


class Wide(Line):
    """A line with enough weights that eight bits are used for them."""

    def __init__(self, optimizer: Any, lr: float = 0.1) -> None:
        super().__init__(lr=lr, optimizer=optimizer)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.network = nn.Linear(4, 1024)
        self.start(dict(self.network.named_parameters()))

    def losses(self, batch: dict[str, Any], draws: Draws) -> Losses:
        x = draws.normal(8, 4)
        return {"loss": (self.network(x) - x[:, :1]).square().mean()}


def test_eight_bits_step_as_adamw_does() -> None:
    """The first step is AdamW's own, later ones are near: Dettmers et al. 2022."""
    eight, plain = Wide("adamw8bit", lr=0.01), Wide("adamw", lr=0.01)
    both = [(module, module.configure_optimizers()) for module in (eight, plain)]
    before = plain.network.weight.detach().clone()
    for step in range(20):
        gradient = torch.randn(1024, 4, generator=torch.manual_seed(step)) + 0.3
        for module, optimizer in both:
            module.network.weight.grad = gradient.clone()
            optimizer.step()
        moved, off = (
            (plain.network.weight - before).norm(),
            (eight.network.weight - plain.network.weight).norm(),
        )
        assert off < (1e-5 if step == 0 else 0.05) * moved
    states = both[0][1].state[eight.network.weight]
    assert states["state1"].dtype == states["state2"].dtype == torch.uint8


def test_prodigy_steps_as_published() -> None:
    """Mishchenko & Defazio 2024, algorithm 4 with Adam's bias correction, in plain numpy."""
    module = Line(lr=1.0, optimizer="prodigy")
    # In float32 its first, tiny steps would round.
    module.network.double()
    optimizer = module.configure_optimizers()
    names = ("weight", "bias")
    parameters = [getattr(module.network, name) for name in names]
    x = np.concatenate([p.detach().double().numpy().ravel() for p in parameters])
    first, beta1, beta2, d, top = x.copy(), 0.9, 0.999, 1e-6, 0.0
    m, v, s = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    beta3 = math.sqrt(beta2)
    rng = np.random.default_rng(0)
    for k in range(30):
        # It is drawn to where the parameters are 3.
        g = x - 3 + 0.1 * rng.normal(size=x.shape)
        for parameter, part in zip(parameters, np.split(g, [8]), strict=True):
            parameter.grad = torch.tensor(part).view_as(parameter)
        optimizer.step()
        rate = d * math.sqrt(1 - beta2 ** (k + 1)) / (1 - beta1 ** (k + 1))
        top = beta3 * top + (d / 1e-6) * rate * float(g @ (first - x))
        m, v = beta1 * m + (1 - beta1) * d * g, beta2 * v + (1 - beta2) * d * d * g * g
        s = beta3 * s + (d / 1e-6) * rate * g
        d = max(d, top / float(np.abs(s).sum()))
        x = x - 0.01 * rate * x - rate * m / (np.sqrt(v) + d * 1e-8)
        for parameter, part in zip(parameters, np.split(x, [8]), strict=True):
            np.testing.assert_allclose(parameter.detach().numpy().ravel(), part, rtol=1e-8)
    assert d > 1e-4, "it found no rate"


SLOTS = {
    "adafactor": {"step", "row_var", "col_var"},
    "adamw8bit": {"step", "state1", "state2", "qmap1", "qmap2", "absmax1", "absmax2"},
    "prodigy": {"step", "s", "p0", "exp_avg", "exp_avg_sq"},
}


@pytest.mark.parametrize("name", SLOTS)
def test_a_run_goes_on_with_the_same_bits(name: str, tmp_path: Path) -> None:
    train(tmp_path / "whole", Wide(name), max_steps=4)
    train(tmp_path / "halves", Wide(name), max_steps=2)
    train(tmp_path / "halves", Wide(name), max_steps=4)
    whole, halves = (
        checkpoints.read(tmp_path / part / "checkpoints/last.ckpt") for part in ("whole", "halves")
    )
    assert set(whole["optimizer"]["weight"]) == SLOTS[name]
    for table in ("parameters", "average"):
        assert all(torch.equal(halves[table][key], t) for key, t in whole[table].items())
    for key, slots in whole["optimizer"].items():
        assert all(torch.equal(halves["optimizer"][key][slot], t) for slot, t in slots.items())
    with pytest.raises(UserError, match="of another optimiser than adamw"):
        checkpoints.check(whole, Wide("adamw"), tmp_path)
    slot = sorted(SLOTS[name] - {"step"})[0]
    whole["optimizer"]["weight"][slot] = torch.zeros(3, 3)
    with pytest.raises(UserError, match=rf"damaged: 'weight' \({slot}\)"):
        checkpoints.check(whole, Wide(name), tmp_path)


def test_prodigy_wants_its_own_rate() -> None:
    with pytest.raises(UserError, match=r"model.lr=0.0001 is no rate .* give model.lr=1"):
        optimizers.check("prodigy", 1e-4)
    optimizers.check("prodigy", 1.0)


@pytest.mark.parametrize(("name", "package"), [("adamw8bit", "bitsandbytes"), ("prodigy", "prodigyopt")])
def test_what_is_missing_is_named(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"needs {package}: pip install"):
        optimizers.check(name, 1.0)


def test_tf32_holds_inside_alone() -> None:
    before = torch.backends.cuda.matmul.fp32_precision
    for allowed, inside in ((True, "tf32"), (False, before)):
        with tf32(allowed):
            assert torch.backends.cuda.matmul.fp32_precision == inside
        assert torch.backends.cuda.matmul.fp32_precision == before


class Mixed(Line):
    """Of all shapes that optimisers treat differently."""

    def __init__(self, optimizer: Any, lr: float) -> None:
        super().__init__(lr=lr, optimizer=optimizer)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layers = [nn.Conv2d(8, 64, 3), nn.Linear(72, 64), nn.Embedding(9, 4)]
        self.network = nn.ModuleDict({type(layer).__name__: layer for layer in layers})
        self.start(dict(self.network.named_parameters()))


@pytest.mark.parametrize("name", sorted(optimizers.KINDS))
def test_what_it_will_keep_is_known_before(name: str) -> None:
    if (package := optimizers.KINDS[name].package) and package != "fdlab":
        pytest.importorskip(package)
    module = Mixed(name, lr=1.0)
    optimizer = module.configure_optimizers()
    trained = module.trainable_parameters()
    for parameter in trained.values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    kept = optimizers.states(name, optimizer, trained)
    num = sum(
        value.numel() * value.element_size()
        for key, slots in kept.items()
        for slot, value in slots.items()
        if key != optimizers.SHARED and slot not in ("step", "qmap1", "qmap2")
    )
    assert optimizers.state_bytes(name, trained) == num
