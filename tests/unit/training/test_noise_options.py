"""Switches of the noise, each against its formula on the numbers drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import diffusers
import pytest
import torch

from fdlab.diffusion.noise import NoiseSchedule
from fdlab.engine.draws import Draws
from fdlab.errors import UserError
from fdlab.training.objective import NoiseSettings, add_noise
from fdlab.training.text_driven import TDM
from tests.worlds.backbones import tiny_backbone

Z0 = torch.linspace(-1, 1, 3 * 4 * 8 * 8).reshape(3, 4, 8, 8)


def test_offset_and_perturbation_change_what_is_seen_and_what_is_asked() -> None:
    schedule = NoiseSchedule.from_config({})
    plain = NoiseSettings(schedule, torch.zeros(1, dtype=torch.long))

    def noised(**changes: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        draws = Draws(torch.Generator().manual_seed(3))
        found = add_noise(Z0, replace(plain, **changes), draws)  # type: ignore[arg-type]
        return found.z_BCHW, found.target_BCHW, schedule.alphas_cumprod_T[found.t_B].view(-1, 1, 1, 1)

    generator = torch.Generator().manual_seed(3)
    eps = torch.randn(Z0.shape, generator=generator)
    channel = torch.randn(3, 4, 1, 1, generator=generator)
    more = torch.randn(Z0.shape, generator=generator)
    z, target, signal = noised(noise_offset=0.2, input_perturbation=0.1)
    torch.testing.assert_close(target, eps + 0.2 * channel)
    seen = eps + 0.2 * channel + 0.1 * more
    torch.testing.assert_close(z, signal**0.5 * Z0 + (1 - signal) ** 0.5 * seen)
    z, target, signal = noised()
    torch.testing.assert_close(z, signal**0.5 * Z0 + (1 - signal) ** 0.5 * eps)
    assert torch.equal(target, eps)


def test_zero_terminal_snr_is_trained_and_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.zero_terminal_snr=true .* model\.prediction_type=v_"):
        TDM(tiny_backbone(), seed=0, zero_terminal_snr=True)
    module = TDM(tiny_backbone(), seed=0, zero_terminal_snr=True, prediction_type="v_prediction")
    # Lin et al. 2024, algorithm 1, on square roots of the products of 1 - beta.
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    root = (1 - betas).cumprod(0) ** 0.5
    expected = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    torch.testing.assert_close(
        module.noise.schedule.alphas_cumprod_T.double(), expected, atol=1e-5, rtol=1e-4
    )
    last = torch.full((3,), 999)
    assert torch.equal(module.noise.schedule.add_noise(Z0, torch.ones_like(Z0), last), torch.ones_like(Z0))
    module.export(tmp_path / "model")
    config = json.loads((tmp_path / "model/scheduler/scheduler_config.json").read_text())
    assert config["rescale_betas_zero_snr"] is True
    # By itself diffusers begins at noise alone, too.
    plain = getattr(diffusers, config["_class_name"]).from_pretrained(tmp_path / "model/scheduler")
    plain.set_timesteps(10)
    assert plain.alphas_cumprod[-1] == 0 and plain.timesteps[0] == 999
