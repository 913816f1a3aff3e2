"""Drawn and spaced timesteps."""

from __future__ import annotations

import diffusers
import pytest
import torch
from scipy import stats

from fdlab.diffusion.noise import STABLE_DIFFUSION, NoiseSchedule, draw_timesteps
from fdlab.diffusion.schedulers import SCHEDULERS, make_scheduler
from fdlab.diffusion.stages import Stages
from fdlab.diffusion.timesteps import TimestepDensity, num_calls, sampler_timesteps, steps_of
from fdlab.errors import UserError


def test_draws_are_uniform_and_repeatable() -> None:
    def draw(seed: int) -> torch.Tensor:
        return draw_timesteps(4000, 1000, torch.Generator().manual_seed(seed))

    t_B = draw(0)
    assert t_B.dtype == torch.int64 and t_B.min() >= 0 and t_B.max() <= 999
    assert torch.equal(t_B, draw(0)) and not torch.equal(t_B, draw(1))
    assert stats.chisquare(torch.bincount(t_B // 100, minlength=10).numpy()).pvalue > 1e-3
    # No order: early and late draws look alike.
    assert abs(t_B[:2000].double().mean() - t_B[2000:].double().mean()) < 40


def test_global_randomness_is_not_touched() -> None:
    state = torch.get_rng_state()
    draw_timesteps(8, 1000, torch.Generator().manual_seed(0))
    assert torch.equal(state, torch.get_rng_state())


SCHEDULE = NoiseSchedule.from_config({})


def test_log_normal_draws_follow_the_normal_distribution_of_log_sigma() -> None:
    density = TimestepDensity("log_normal", mean=0.0, std=0.7, uniform_share=0.0)
    t_B = density.draw(4000, SCHEDULE, torch.Generator().manual_seed(0))
    a_T = SCHEDULE.alphas_cumprod_T.double()
    log_sigma_B = ((1 - a_T) / a_T).sqrt().log()[t_B].numpy()
    # The grid of 1000 timesteps is fine there, so that rounding to it moves nothing.
    assert stats.kstest(log_sigma_B, stats.norm(0.0, 0.7).cdf).statistic < 0.02
    # Stratified: the sample's quantiles are the distribution's, much nearer than independent draws' would be.
    assert abs(log_sigma_B.mean()) < 0.005 and abs(log_sigma_B.std() - 0.7) < 0.01


def test_a_share_of_the_draws_is_uniform() -> None:
    narrow = TimestepDensity("log_normal", mean=0.0, std=0.01, uniform_share=0.25)
    t_B = narrow.draw(4000, SCHEDULE, torch.Generator().manual_seed(0))
    middle = t_B.median()
    assert abs(float(((t_B - middle).abs() > 20).double().mean()) - 0.25) < 0.03
    whole = TimestepDensity("log_normal", mean=0.0, std=0.01, uniform_share=1.0)
    t_B = whole.draw(4000, SCHEDULE, torch.Generator().manual_seed(0))
    assert stats.chisquare(torch.bincount(t_B // 100, minlength=10).numpy()).pvalue > 1e-3


def test_the_uniform_density_draws_as_it_always_did() -> None:
    t_B = TimestepDensity().draw(64, SCHEDULE, torch.Generator().manual_seed(3))
    assert torch.equal(t_B, torch.randint(0, 1000, (64,), generator=torch.Generator().manual_seed(3)))


def test_tails_end_at_the_ends_of_the_schedule() -> None:
    wide = TimestepDensity("log_normal", mean=0.0, std=50.0, uniform_share=0.0)
    t_B = wide.draw(1000, SCHEDULE, torch.Generator().manual_seed(0))
    assert t_B.min() == 0 and t_B.max() == 999


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "lognormal"}, "log_normal"),
        ({"std": 0.0}, "positive"),
        ({"uniform_share": 1.5}, r"\[0, 1\]"),
    ],
)
def test_densities_that_make_no_sense_are_refused(given: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TimestepDensity(**given)


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


@pytest.mark.parametrize("num_steps", [1, 7, 50])
@pytest.mark.parametrize("spacing", ["leading", "linspace"])
@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name != "pndm"])
def test_one_call_a_step_counts_the_calls(name: str, spacing: str, num_steps: int) -> None:
    timesteps_S = sampler_timesteps(make_scheduler(name, {}, spacing), num_steps)
    assert steps_of(timesteps_S, num_steps) == list(range(num_steps))


# diffusers' KDPM2 hands NumPy a tensor.
@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
@pytest.mark.parametrize("num_steps", [6, 20, 50])
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("PNDMScheduler", {}),
        ("PNDMScheduler", {"skip_prk_steps": False}),
        ("HeunDiscreteScheduler", {}),
        ("KDPM2DiscreteScheduler", {}),
        ("KDPM2AncestralDiscreteScheduler", {}),
    ],
)
def test_stages_end_at_a_timestep_however_often_models_are_called(
    name: str, more: dict[str, bool], num_steps: int
) -> None:
    """With the released fractions, the TDM draws down to DDIM's timestep, and the fusion down to its own."""
    wanted = ("beta_start", "beta_end", "beta_schedule", "steps_offset")
    settings = {key: STABLE_DIFFUSION[key] for key in wanted} | {"timestep_spacing": "leading"}
    scheduler = getattr(diffusers, name)(
        **{**settings, "skip_prk_steps": True} | more if "PNDM" in name else settings
    )
    timesteps_S = sampler_timesteps(scheduler, num_steps)
    assert len(timesteps_S) > num_steps
    one_call = sampler_timesteps(make_scheduler("ddim", {}), num_steps).tolist()
    stages = Stages.from_fractions(0.3, 0.6, num_steps)
    # A stage draws at every timestep above the next stage's first.
    fused, subject = one_call[stages.last_tdm_step + 1], one_call[stages.last_snf_step + 1]
    for t, step in zip(timesteps_S.tolist(), steps_of(timesteps_S, num_steps), strict=True):
        # KDPM2's are whole but for rounding.
        wanted_stage = "tdm" if t > fused + 0.01 else "snf" if t > subject + 0.01 else "sdm"
        assert stages.at(step) == wanted_stage, t


def test_where_calls_fit_no_scheme_steps_are_even_in_t() -> None:
    # 0, 0.2 and 0.6 of the way to the second of three steps, then the last.
    assert steps_of(torch.tensor([1000, 900, 700, 0]), 3) == [0, 0, 0, 2]
    assert steps_of(torch.tensor([1000, 500, 400, 0]), 3) == [0, 1, 1, 2]
    assert steps_of(torch.tensor([7, 7]), 1) == [0, 0]


def test_calls_end_at_the_first_level_that_is_low_enough() -> None:
    timesteps = torch.tensor([900, 500, 300, 100])
    sigma_S = SCHEDULE.log_sigma_T[timesteps].exp().tolist()
    for position, sigma in enumerate(sigma_S):
        assert num_calls(timesteps, SCHEDULE, sigma * 1.0001) == position + 1
    assert num_calls(timesteps, SCHEDULE, sigma_S[-1] / 2) == num_calls(timesteps, SCHEDULE) == 4
    for level in (-0.1, float("inf"), float("nan"), 15.0, 1000.0):
        with pytest.raises(UserError, match=r"final_sigma is .* from 0 to below .* \(14\.6\)"):
            num_calls(timesteps, SCHEDULE, level)
