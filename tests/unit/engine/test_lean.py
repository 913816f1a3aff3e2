"""Frozen weights that are rounded or away while others learn, and whole again."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from fdlab.engine.lean import Kept, Lean

CPU = torch.device("cpu")


class Small(nn.Module):
    """A layer of each kind; the last learns."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.embedding, self.norm = nn.Embedding(5, 6), nn.LayerNorm(6)
            self.kernel, self.linear, self.last = nn.Conv1d(4, 4, 3), nn.Linear(4, 8), nn.Linear(8, 2)
        self.requires_grad_(False)
        self.last.requires_grad_(True)

    def forward(self, ids_BL: Tensor) -> Tensor:
        return self.last(self.linear(self.kernel(self.norm(self.embedding(ids_BL)))))


def step(network: Small) -> tuple[Tensor, list[Tensor]]:
    network.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        loss = network(torch.tensor([[0, 1, 2, 3], [4, 3, 2, 1]])).float().square().mean()
    loss.backward()
    return loss.detach(), [p.grad.clone() for p in network.last.parameters() if p.grad is not None]


def rounded_by_hand(network: Small) -> Small:
    made = deepcopy(network)
    for layer in (made.kernel, made.linear):
        layer.weight.data = layer.weight.data.bfloat16()
        assert layer.bias is not None
        layer.bias.data = layer.bias.data.bfloat16()
    return made


def test_rounded_weights_compute_the_same_to_the_bit() -> None:
    exact, lean = Small(), Small()
    Kept(Lean(dtype=torch.bfloat16), {"net": lean}, CPU)
    assert {name for name, p in lean.named_parameters() if p.dtype == torch.bfloat16} == {
        "kernel.weight", "kernel.bias", "linear.weight", "linear.bias",
    }  # fmt: skip
    (loss, gradients), (other, others) = step(lean), step(exact)
    by_hand, by_hands = step(rounded_by_hand(exact))
    assert torch.equal(loss, by_hand) and torch.equal(loss, other)
    for a, b, c in zip(gradients, others, by_hands, strict=True):
        assert torch.equal(a, b) and torch.equal(a, c) and a.dtype == torch.float32


def test_exact_weights_come_back_for_a_while_and_for_good() -> None:
    network = Small()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    objects = dict(network.named_parameters())
    kept = Kept(Lean(dtype=torch.bfloat16), {"net": network}, CPU)
    with torch.no_grad():
        network.last.weight.add_(1)
    with pytest.raises(ZeroDivisionError), kept.whole():
        for name, p in network.named_parameters():
            assert torch.equal(p, before[name]) == (name != "last.weight") and p.dtype == torch.float32
        raise ZeroDivisionError
    assert network.linear.weight.dtype == torch.bfloat16
    kept.undo()
    for name, p in network.named_parameters():
        assert p is objects[name] and torch.equal(p, before[name]) == (name != "last.weight")


class Far(Kept):
    """On a device of which nothing is known but that it is another."""

    def __init__(self, lean: Lean, parts: dict[str, nn.Module]) -> None:
        self.sent: dict[int, Tensor] = {}
        super().__init__(lean, parts, torch.device("cuda"))

    def _sent(self, exact: Tensor) -> Tensor:
        copy = exact.clone()
        self.sent[copy.data_ptr()] = copy
        return copy


def test_what_no_step_needs_waits_on_the_host_and_comes_to_the_device() -> None:
    away, here = Small(), Small()
    before = {name: (p.data_ptr(), p.detach().clone()) for name, p in away.named_parameters()}
    kept = Far(Lean(frozenset({"away", "none"}), dtype=torch.bfloat16), {"away": away, "here": here})
    assert here.linear.weight.dtype == torch.bfloat16 and away.linear.weight.dtype == torch.float32
    assert not kept.sent
    with kept.whole():
        # What learns is nobody's to move, and what is not rounded is there.
        for name, p in away.named_parameters():
            assert (p.data_ptr() in kept.sent) == (not name.startswith("last"))
        for name, p in here.named_parameters():
            assert (p.data_ptr() in kept.sent) == name.startswith(("linear", "kernel"))
            assert torch.equal(p, before[name][1])
    for name, p in away.named_parameters():
        assert p.data_ptr() == before[name][0] and torch.equal(p, before[name][1])


def test_what_is_to_be_exact_stays() -> None:
    network = Small()
    Kept(Lean(exact=frozenset({"vae"}), dtype=torch.bfloat16), {"vae": network}, CPU)
    Kept(Lean(resting=frozenset({"vae"})), {"vae": network}, CPU)
    assert all(p.dtype == torch.float32 and not p.is_meta for p in network.parameters())
