"""Drawn and spaced timesteps."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from fdlab.diffusion.schedulers import make_scheduler
from fdlab.diffusion.timesteps import draw_timesteps, sampler_timesteps
from fdlab.errors import UserError


@pytest.mark.parametrize("stratified", [False, True])
def test_draws_are_uniform_and_repeatable(stratified: bool) -> None:
    def draw(seed: int) -> torch.Tensor:
        return draw_timesteps(4000, 1000, torch.Generator().manual_seed(seed), stratified=stratified)

    t_B = draw(0)
    assert t_B.dtype == torch.int64 and t_B.min() >= 0 and t_B.max() <= 999
    assert torch.equal(t_B, draw(0)) and not torch.equal(t_B, draw(1))
    assert stats.chisquare(torch.bincount(t_B // 100, minlength=10).numpy()).pvalue > 1e-3
    # No order: early and late draws look alike.
    assert abs(t_B[:2000].double().mean() - t_B[2000:].double().mean()) < 40


def test_a_stratified_batch_covers_the_range() -> None:
    for seed in range(50):
        t_B = draw_timesteps(8, 1000, torch.Generator().manual_seed(seed), stratified=True)
        assert sorted((t_B // 125).tolist()) == list(range(8))


def test_global_randomness_is_not_touched() -> None:
    state = torch.get_rng_state()
    draw_timesteps(8, 1000, torch.Generator().manual_seed(0))
    draw_timesteps(8, 1000, torch.Generator().manual_seed(0), stratified=True)
    assert torch.equal(state, torch.get_rng_state())


def test_sampler_timesteps_of_stable_diffusion() -> None:
    ddim = sampler_timesteps(make_scheduler("ddim", {}), 50)
    assert ddim.tolist() == list(range(981, 0, -20))
    pndm = sampler_timesteps(make_scheduler("pndm", {}), 50)
    assert len(pndm) == 51 and pndm.tolist()[:3] == [981, 961, 961]


@pytest.mark.parametrize("num_steps", [0, -3, 1001])
def test_impossible_numbers_of_steps(num_steps: int) -> None:
    with pytest.raises(UserError, match=f"num_steps is {num_steps}"):
        sampler_timesteps(make_scheduler("ddim", {}), num_steps)


def test_trailing_spacing_has_to_divide() -> None:
    scheduler = make_scheduler("ddim", {}, spacing="trailing")
    assert sampler_timesteps(scheduler, 50).tolist()[0] == 999
    with pytest.raises(UserError, match="divisor of 1000"):
        sampler_timesteps(scheduler, 30)
    assert len(sampler_timesteps(make_scheduler("unipc", {}, spacing="trailing"), 30)) == 30
