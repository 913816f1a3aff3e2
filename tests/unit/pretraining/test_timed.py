from __future__ import annotations

import os
import signal

import pytest
import torch
from torch import nn

from fdlab.pretraining.timed import Schedule, TimedTraining
from fdlab.training.muon import Muon, as_matrix, from_matrix, orthogonalized, takes_muon


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(2, 6, 3), nn.GroupNorm(2, 6), nn.Flatten(), nn.Linear(24, 3))


def loss_of(module: nn.Module, step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    x = torch.randn(4, 2, 4, 4, generator=torch.Generator().manual_seed(step))
    loss = (module(x) - x.mean(dim=(2, 3)).sum(1, keepdim=True)).square().mean()
    return loss, {"part": loss.detach()}


def test_a_killed_run_goes_on_from_its_state_to_the_bit(tmp_path):
    def advance(training: TimedTraining, steps: range) -> None:
        for step in steps:
            training.optimizer.zero_grad()
            loss_of(training.module, step)[0].backward()
            training.optimizer.step()
            training.step += 1
            training.update_average()

    whole = TimedTraining(tmp_path / "whole", network(), Schedule(1.0))
    advance(whole, range(7))
    first = TimedTraining(tmp_path / "parts", network(), Schedule(1.0))
    advance(first, range(4))
    first.elapsed_s = 12.5
    first.save()
    second = TimedTraining(tmp_path / "parts", network(seed=9), Schedule(1.0))
    assert (second.step, second.elapsed_s) == (4, 12.5)
    advance(second, range(4, 7))
    for name, parameter in whole.parameters.items():
        assert torch.equal(parameter, second.parameters[name])
        assert torch.equal(whole.average[name], second.average[name])


def test_runs_for_its_time_logs_and_lowers_the_loss(tmp_path):
    module = network()
    training = TimedTraining(tmp_path, module, Schedule(minutes=0.02, warmup_steps=5), log_every=10)
    before = loss_of(module, 10_000)[0].item()
    assert training.run(lambda step: loss_of(module, step))
    assert training.elapsed_s >= 1.2
    with training.averaged():
        assert loss_of(module, 10_000)[0].item() < 0.5 * before
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert (
        len(lines) == training.step // 10 and "left" in lines[0] and "part" in lines[0] and "lr" in lines[0]
    )


def test_a_signal_stops_it_cleanly_with_its_state_saved(tmp_path):
    module = network()
    training = TimedTraining(tmp_path, module, Schedule(minutes=5))

    def step_and_ask_to_stop(step: int):
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss_of(module, step)

    before = signal.getsignal(signal.SIGTERM)
    assert training.run(step_and_ask_to_stop) is False
    assert signal.getsignal(signal.SIGTERM) is before
    assert TimedTraining(tmp_path, network(3), Schedule(minutes=5)).step == 4


def test_averaged_weights_are_put_in_and_taken_out(tmp_path):
    training = TimedTraining(tmp_path, network(), Schedule(1.0))
    kept = {name: p.detach().clone() for name, p in training.parameters.items()}
    for tensor in training.average.values():
        tensor.zero_()
    with training.averaged() as module:
        assert all(bool((p == 0).all()) for p in module.parameters()) and not module.training
    assert (
        all(torch.equal(p, kept[name]) for name, p in training.parameters.items())
        and training.module.training
    )


def test_the_rate_warms_up_by_steps_and_falls_by_time():
    schedule = Schedule(minutes=1, warmup_steps=10, final_share=0.1)
    assert schedule.share(0, 0) == pytest.approx(0.1)
    assert schedule.share(100, 0) == pytest.approx(1.0)
    assert schedule.share(100, 30) == pytest.approx(0.55)
    assert Schedule(minutes=1, warmup_steps=1, final_share=0.1, max_steps=200).share(100, 0) == pytest.approx(
        0.55
    )
    assert schedule.share(100, 60) == schedule.share(100, 999) == pytest.approx(0.1)


@pytest.mark.parametrize("shape", [(20, 50), (50, 20), (30, 30)])
def test_orthogonalizing_keeps_the_directions_and_levels_the_strengths(shape):
    g = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    out = orthogonalized(g)
    strengths = torch.linalg.svdvals(out)
    assert out.shape == g.shape and float(strengths.min()) > 0.4 and float(strengths.max()) < 1.3
    u, _, v = torch.linalg.svd(g[0], full_matrices=False)
    share = torch.einsum("ik,ij,kj->k", u, out[0], v) / strengths[0].sum() * len(v)
    assert float(share.mean()) > 0.95


def test_matrices_and_back():
    weight = torch.randn(5, 3, 2, 2)
    assert as_matrix(weight).shape == (5, 12)
    assert torch.equal(from_matrix(as_matrix(weight), weight), weight)
    assert takes_muon("conv.weight", weight) and takes_muon("linear.weight", torch.zeros(4, 4))
    assert not takes_muon("norm.bias", torch.zeros(4)) and not takes_muon(
        "token_embedding.weight", torch.zeros(4, 4)
    )
    assert not takes_muon("head.weight", torch.zeros(1, 9))


def test_adam_part_is_torchs_adam():
    ours, theirs = nn.Parameter(torch.ones(5)), nn.Parameter(torch.ones(5))
    muon = Muon([("bias", ours)], adam_lr=0.1, betas=(0.9, 0.98))
    adam = torch.optim.Adam([theirs], lr=0.1, betas=(0.9, 0.98))
    for step in range(5):
        gradient = torch.randn(5, generator=torch.Generator().manual_seed(step))
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        muon.step()
        adam.step()
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_a_step_has_the_size_of_the_rate_whatever_the_gradient():
    for factor in (1e-3, 1e3):
        parameter = nn.Parameter(torch.zeros(16, 16))
        muon = Muon([("weight", parameter)], lr=0.1, weight_decay=0.0)
        parameter.grad = factor * torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
        muon.set_share(0.5)
        muon.step()
        assert 0.02 < float(torch.linalg.svdvals(parameter.detach()).max()) < 0.065
