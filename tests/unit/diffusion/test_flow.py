"""Flow matching's noise, against diffusers' scheduler and by its own definitions."""

from __future__ import annotations

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from fdlab.diffusion.flow import FLOW, FlowSchedule, predicts, schedule_of
from fdlab.diffusion.noise import NoiseSchedule
from fdlab.diffusion.timesteps import TimestepDensity, num_calls
from fdlab.errors import UserError

CONFIG = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
Z0, EPS = (torch.randn(4, 2, 3, 3, generator=torch.manual_seed(seed)) for seed in (0, 1))


def test_a_config_says_what_it_is() -> None:
    assert predicts(CONFIG) == predicts({"prediction_type": FLOW, "beta_start": 0.1}) == FLOW
    assert predicts(FlowMatchEulerDiscreteScheduler(shift=3.0).config) == FLOW
    assert predicts({}) == "epsilon" and predicts({"prediction_type": "v_prediction"}) == "v_prediction"
    flow = schedule_of({"prediction_type": FLOW, "flow_shift": 2.0, "beta_start": 0.1})
    assert isinstance(flow, FlowSchedule) and flow.shift == 2.0
    assert isinstance(schedule_of({}), NoiseSchedule)


def test_noise_is_added_as_diffusers_adds_it() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    t = scheduler.timesteps[[10, 400, 700, 990]]
    ours = schedule_of(CONFIG).add_noise(Z0, EPS, t)
    torch.testing.assert_close(ours, scheduler.scale_noise(Z0, t, EPS), rtol=1e-5, atol=1e-6)


def test_the_velocity_gives_back_picture_and_noise() -> None:
    schedule, t = FlowSchedule(), torch.tensor([1.0, 250.0, 600.0, 999.0])
    z, v = schedule.add_noise(Z0, EPS, t), schedule.target(Z0, EPS, t)
    torch.testing.assert_close(schedule.clean(z, v, t), Z0, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(schedule.noise(z, v, t), EPS, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(schedule.clean_at(z[1:2], v[1:2], 250.0), Z0[1:2], rtol=1e-4, atol=1e-5)
    more = schedule.noise(z, v + 1.0, t) - schedule.noise(z, v, t)
    torch.testing.assert_close(more[:, 0, 0, 0], schedule.noise_per_output(t), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(schedule.level(t), t / (1000 - t), rtol=1e-4, atol=0)
    torch.testing.assert_close(schedule.snr(t), ((1000 - t) / t) ** 2)


def test_training_visits_the_papers_noise_levels() -> None:
    """Density of equation 19, with the shift of equation 23: its quantiles are those of a normal variable."""
    density = TimestepDensity("log_normal", 0.0, 1.0, 0.0)
    t = density.draw(4000, schedule_of(CONFIG), torch.Generator().manual_seed(0))
    assert t.dtype == torch.float32 and t.min() > 0 and t.max() < 1000
    for share in (0.1, 0.5, 0.9):
        u = torch.sigmoid(torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(share)))
        assert float((t / 1000).quantile(share)) == pytest.approx(float(3 * u / (1 + 2 * u)), abs=0.002)
    even = TimestepDensity().draw(4000, FlowSchedule(), torch.Generator().manual_seed(0))
    assert float(even.mean()) == pytest.approx(500, abs=15)


def test_sampling_may_end_at_a_noise_level() -> None:
    t = torch.tensor([1000.0, 750.0, 500.0, 250.0])
    assert [num_calls(t, FlowSchedule(), sigma) for sigma in (3.5, 1.0, 0.1, 0.0)] == [2, 3, 4, 4]
    with pytest.raises(UserError, match="below the model's highest noise level"):
        num_calls(t, FlowSchedule(), float("inf"))
