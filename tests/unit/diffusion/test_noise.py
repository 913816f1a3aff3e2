"""The forward process against diffusers, and against its own algebra."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from fdlab.diffusion.noise import STABLE_DIFFUSION, NoiseSchedule, rescale_to_zero_snr
from fdlab.errors import UserError

CONFIGS: list[dict[str, Any]] = [
    {},
    {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
    {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 200},
    {"trained_betas": [0.1, 0.2, 0.3]},
]


def some(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("config", CONFIGS)
def test_schedule_is_diffusers(config: dict[str, Any]) -> None:
    keys = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas")
    theirs = DDPMScheduler(
        **{key: value for key, value in {**STABLE_DIFFUSION, **config}.items() if key in keys}
    )
    ours = NoiseSchedule.from_config(config)
    torch.testing.assert_close(ours.alphas_cumprod_T, theirs.alphas_cumprod, rtol=1e-6, atol=0)
    t_B = torch.tensor([0, 1, ours.num_timesteps - 1])
    z0, eps = some((3, 5, 4, 6)), some((3, 5, 4, 6), 1)
    torch.testing.assert_close(ours.add_noise(z0, eps, t_B), theirs.add_noise(z0, eps, t_B))
    torch.testing.assert_close(ours.target(z0, eps, t_B, "v_prediction"), theirs.get_velocity(z0, eps, t_B))
    assert ours.target(z0, eps, t_B, "epsilon") is eps


def test_zero_terminal_snr_is_diffusers() -> None:
    config = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    ours = NoiseSchedule.from_config(config)
    keys = ("beta_start", "beta_end", "beta_schedule")
    theirs = DDIMScheduler(**{key: STABLE_DIFFUSION[key] for key in keys}, **config)
    torch.testing.assert_close(ours.alphas_cumprod_T, theirs.alphas_cumprod, rtol=1e-5, atol=1e-9)
    assert ours.alphas_cumprod_T[-1] == 0
    assert ours.snr(torch.tensor([999])) == 0
    betas = torch.linspace(1e-4, 0.02, 100)
    torch.testing.assert_close(rescale_to_zero_snr(betas)[0], betas[0], rtol=1e-3, atol=0)


@given(t=st.integers(0, 999), seed=st.integers(0, 99), kind=st.sampled_from(["epsilon", "v_prediction"]))
@settings(max_examples=40, deadline=None)
def test_a_perfect_output_gives_back_picture_and_noise(t: int, seed: int, kind: str) -> None:
    schedule = NoiseSchedule.from_config({"prediction_type": kind})
    z0, eps, t_B = some((2, 3, 2, 2), seed), some((2, 3, 2, 2), seed + 100), torch.full((2,), t)
    z, output = schedule.add_noise(z0, eps, t_B), schedule.target(z0, eps, t_B)
    torch.testing.assert_close(schedule.clean(z, output, t_B), z0, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(schedule.noise(z, output, t_B), eps, rtol=1e-3, atol=1e-4)
    # A difference of outputs at one z, times noise_per_output, is the difference of the noises they imply.
    other = output + 1.0
    moved = schedule.noise(z, other, t_B) - schedule.noise(z, output, t_B)
    torch.testing.assert_close(moved, schedule.noise_per_output(t_B)[:, None, None, None].expand_as(moved))


def test_snr_is_the_ratio_of_variances() -> None:
    schedule = NoiseSchedule.from_config({})
    t_B = torch.arange(1000)
    signal = schedule.alphas_cumprod_T.double()
    torch.testing.assert_close(schedule.snr(t_B).double(), signal / (1 - signal), rtol=1e-4, atol=0)
    assert (schedule.snr(t_B).diff() < 0).all()


def test_dtype_follows_the_latents() -> None:
    schedule = NoiseSchedule.from_config({"prediction_type": "v_prediction"})
    z0, t_B = some((1, 2, 2, 2)).bfloat16(), torch.tensor([500])
    assert schedule.add_noise(z0, z0, t_B).dtype == torch.bfloat16
    assert schedule.target(z0, z0, t_B).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"prediction_type": "epsilom"}, "Did you mean 'epsilon'"),
        ({"beta_schedule": "scaled_liner"}, "Did you mean 'scaled_linear'"),
        ({"rescale_betas_zero_snr": True}, "v_prediction"),
    ],
)
def test_bad_configs(config: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        NoiseSchedule.from_config(config)
