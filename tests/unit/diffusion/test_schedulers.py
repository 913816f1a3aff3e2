"""diffusers' schedulers with the model's own settings."""

from __future__ import annotations

import pytest

from fdlab.diffusion.noise import STABLE_DIFFUSION
from fdlab.diffusion.schedulers import SCHEDULERS, make_scheduler
from fdlab.errors import UserError


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_stable_diffusions_settings_and_the_models_prediction_type(name: str, kind: str) -> None:
    config = make_scheduler(name, {"prediction_type": kind, "num_train_timesteps": 500}).config
    assert config.prediction_type == kind and config.num_train_timesteps == 500
    assert (config.beta_start, config.beta_end, config.beta_schedule) == (0.00085, 0.012, "scaled_linear")
    assert config.steps_offset == 1 and config.timestep_spacing == "leading"
    for key in ("clip_sample", "set_alpha_to_one"):
        assert config.get(key, False) is False
    assert config.get("skip_prk_steps", True) is True


def test_a_saved_config_of_another_scheduler_will_do() -> None:
    saved = {
        **STABLE_DIFFUSION,
        "_class_name": "PNDMScheduler",
        "_diffusers_version": "0.6.0",
        "trained_betas": None,
    }
    assert make_scheduler("unipc", saved).config.steps_offset == 1
    assert (
        make_scheduler("ddim", {**saved, "timestep_spacing": "trailing"}).config.timestep_spacing
        == "trailing"
    )
    assert make_scheduler("ddim", saved, spacing="linspace").config.timestep_spacing == "linspace"


def test_names_as_people_write_them() -> None:
    for name in ("DPM++ 2M", "dpmpp_2m", "dpm++-2m"):
        scheduler = make_scheduler(name, {})
        assert type(scheduler).__name__ == "DPMSolverMultistepScheduler"
        assert (scheduler.config.algorithm_type, scheduler.config.solver_order) == ("dpmsolver++", 2)


def test_zero_terminal_snr() -> None:
    zero = {"rescale_betas_zero_snr": True}
    with pytest.raises(UserError, match="v_prediction"):
        make_scheduler("ddim", zero)
    with pytest.raises(UserError, match="use one of: ddim, dpmpp_2m"):
        make_scheduler("pndm", {**zero, "prediction_type": "v_prediction"})
    scheduler = make_scheduler("ddim", {**zero, "prediction_type": "v_prediction"})
    scheduler.set_timesteps(10)
    assert scheduler.alphas_cumprod[-1] == 0 and scheduler.timesteps[0] == 999


@pytest.mark.parametrize(
    ("name", "config", "spacing", "said"),
    [
        ("dimm", {}, None, "Did you mean 'ddim'"),
        ("ddim", {}, "leadin", "Did you mean 'leading'"),
        ("ddim", {"prediction_type": "sample"}, None, "unknown prediction type 'sample'"),
    ],
)
def test_bad_input(name: str, config: dict[str, str], spacing: str | None, said: str) -> None:
    with pytest.raises(UserError, match=said):
        make_scheduler(name, config, spacing)
