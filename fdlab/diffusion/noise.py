"""The forward process of diffusion: how much signal and noise a latent holds at each timestep.

Axes: B batch, C latent channels, H W latent grid, T training timesteps.
With a_t = sqrt(alphas_cumprod) and s_t = sqrt(1 - alphas_cumprod): z_t = a_t z_0 + s_t eps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fdlab.errors import UserError, unknown

PREDICTION_TYPES = ("epsilon", "v_prediction")
BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")

STABLE_DIFFUSION: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "skip_prk_steps": True,
    "prediction_type": "epsilon",
}
"""Stable Diffusion 1.5's scheduler settings; diffusers' class defaults are others."""


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """Signal and noise at each of T training timesteps, and what the model predicts.

    `alphas_cumprod_T` is float32 in [0, 1], falling; `prediction_type` is "epsilon" or "v_prediction".
    """

    alphas_cumprod_T: Tensor
    prediction_type: str = "epsilon"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> NoiseSchedule:
        """Build from a diffusers scheduler config; a missing key takes Stable Diffusion's value.

        Raises UserError for an unknown beta schedule or prediction type, and for a terminal signal-to-noise
        ratio of zero with epsilon prediction.
        """
        merged = {**STABLE_DIFFUSION, **config}
        check_prediction(merged)
        betas_T = _betas(merged)
        if merged.get("rescale_betas_zero_snr"):
            betas_T = rescale_to_zero_snr(betas_T)
        return cls(torch.cumprod(1.0 - betas_T, dim=0), merged["prediction_type"])

    @property
    def num_timesteps(self) -> int:
        return self.alphas_cumprod_T.shape[0]

    @property
    def log_sigma_T(self) -> Tensor:
        """log(s_t / a_t) of every timestep, rising; float64."""
        signal_T = self.alphas_cumprod_T.double()
        return 0.5 * ((1.0 - signal_T) / signal_T).log()

    @property
    def highest_level(self) -> float:
        """Noise level s_t / a_t of the last timestep; infinite where no signal is left."""
        return float(self.log_sigma_T.max().exp())

    def uniform(self, num: int, generator: torch.Generator) -> Tensor:
        """Timesteps (num,), uniform; int64 on the generator's device."""
        return draw_timesteps(num, self.num_timesteps, generator)

    def level(self, t: Tensor) -> Tensor:
        """Noise level s_t / a_t of timesteps; float64."""
        return self.log_sigma_T.to(t.device)[t.long()].exp()

    def at_log_sigma(self, log_sigma_B: Tensor) -> Tensor:
        """The timesteps whose log(s_t / a_t) is nearest to `log_sigma_B`; int64."""
        rising_T = self.log_sigma_T.to(log_sigma_B.device)
        middle = (rising_T[1:] + rising_T[:-1]) / 2
        return torch.bucketize(log_sigma_B.to(rising_T), middle)

    def to(self, device: torch.device | str) -> NoiseSchedule:
        """The same schedule with its table on `device`, which spares a copy per call."""
        return NoiseSchedule(self.alphas_cumprod_T.to(device), self.prediction_type)

    def add_noise(self, z0_BCHW: Tensor, eps_BCHW: Tensor, t_B: Tensor) -> Tensor:
        """z_t = a_t z_0 + s_t eps (Ho et al. 2020, eq. 4), in the dtype of `z0_BCHW`."""
        a_B111, s_B111 = self._signal_and_noise(t_B, z0_BCHW)
        return (a_B111 * z0_BCHW + s_B111 * eps_BCHW).to(z0_BCHW.dtype)

    def target(
        self, z0_BCHW: Tensor, eps_BCHW: Tensor, t_B: Tensor, prediction_type: str | None = None
    ) -> Tensor:
        """What the model should predict: eps, or v = a_t eps - s_t z_0 (Salimans & Ho 2022, appendix D)."""
        if self._kind(prediction_type) == "epsilon":
            return eps_BCHW
        a_B111, s_B111 = self._signal_and_noise(t_B, z0_BCHW)
        return (a_B111 * eps_BCHW - s_B111 * z0_BCHW).to(z0_BCHW.dtype)

    def snr(self, t_B: Tensor) -> Tensor:
        """Signal-to-noise ratio a_t^2 / s_t^2 at each timestep, shape of `t_B`, float32 in [0, inf)."""
        signal_B = self.alphas_cumprod_T.to(t_B.device)[t_B.long()]
        return signal_B / (1.0 - signal_B)

    def clean(
        self, z_BCHW: Tensor, output_BCHW: Tensor, t_B: Tensor, prediction_type: str | None = None
    ) -> Tensor:
        """The clean latent z_0 that the model's output implies; for epsilon undefined where a_t = 0."""
        a_B111, s_B111 = self._signal_and_noise(t_B, z_BCHW)
        if self._kind(prediction_type) == "epsilon":
            return ((z_BCHW - s_B111 * output_BCHW) / a_B111).to(z_BCHW.dtype)
        return (a_B111 * z_BCHW - s_B111 * output_BCHW).to(z_BCHW.dtype)

    def clean_at(self, z_BCHW: Tensor, output_BCHW: Tensor, t: float) -> Tensor:
        """`clean` of a whole batch at one `t`, which may lie between two timesteps.

        What models see is a_t z_0 + s_t eps with every scheduler: Euler, which keeps z_0 + sigma eps, scales
        to that before each call. Between two timesteps sigma = s_t / a_t is linear, as Euler has it.
        """
        below = int(t)
        signal = self.alphas_cumprod_T[below]
        if t != below:
            pair = self.alphas_cumprod_T[below : below + 2].double()
            low, high = ((1 - pair) / pair).sqrt()
            signal = (1 / (1 + torch.lerp(low, high, t - below) ** 2)).float()
        now = NoiseSchedule(signal.reshape(1).to(z_BCHW.device), self.prediction_type)
        t_1 = torch.zeros(1, dtype=torch.long, device=z_BCHW.device)
        return now.clean(z_BCHW, output_BCHW.to(z_BCHW.dtype), t_1)

    def noise(
        self, z_BCHW: Tensor, output_BCHW: Tensor, t_B: Tensor, prediction_type: str | None = None
    ) -> Tensor:
        """The noise eps that the model's output implies."""
        if self._kind(prediction_type) == "epsilon":
            return output_BCHW
        a_B111, s_B111 = self._signal_and_noise(t_B, z_BCHW)
        return (a_B111 * output_BCHW + s_B111 * z_BCHW).to(z_BCHW.dtype)

    def noise_per_output(self, t: Tensor) -> Tensor:
        """d eps / d output at `t`: 1 for epsilon, a_t for v. Turns a difference of outputs into noise."""
        index = t.round().long()
        if self.prediction_type == "epsilon":
            return torch.ones_like(index, dtype=torch.float32)
        return self.alphas_cumprod_T.to(t.device)[index].sqrt()

    def _kind(self, prediction_type: str | None) -> str:
        kind = self.prediction_type if prediction_type is None else prediction_type
        if kind not in PREDICTION_TYPES:
            raise unknown("prediction type", kind, PREDICTION_TYPES)
        return kind

    def _signal_and_noise(self, t_B: Tensor, like_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        signal = self.alphas_cumprod_T.to(like_BCHW.device)[t_B.to(like_BCHW.device).long()]
        shape = (-1,) + (1,) * (like_BCHW.dim() - 1)
        return signal.sqrt().view(shape), (1.0 - signal).sqrt().view(shape)


def check_prediction(config: Mapping[str, Any]) -> None:
    """Raise UserError unless the config's prediction type is known and can be sampled with its betas.

    At zero terminal SNR z_T holds no signal, so eps = z_T says nothing about z_0 (Lin et al. 2024, section
    3.3).
    """
    kind = config.get("prediction_type", "epsilon")
    if kind not in PREDICTION_TYPES:
        raise unknown("prediction type", kind, PREDICTION_TYPES)
    if config.get("rescale_betas_zero_snr") and kind == "epsilon":
        raise UserError(
            "rescale_betas_zero_snr=true needs prediction_type 'v_prediction', but the model's is 'epsilon': "
            "at zero terminal signal-to-noise ratio the noise says nothing about the picture."
        )


def rescale_to_zero_snr(betas_T: Tensor) -> Tensor:
    """Shift and stretch a_t so that a_T = 0 and a_1 stays (Lin et al. 2024, algorithm 1)."""
    a_T = torch.cumprod(1.0 - betas_T, dim=0).sqrt()
    first, last = a_T[0].clone(), a_T[-1].clone()
    a_T = (a_T - last) * first / (first - last)
    signal_T = a_T**2
    return 1.0 - torch.cat([signal_T[:1], signal_T[1:] / signal_T[:-1]])


def _betas(config: Mapping[str, Any]) -> Tensor:
    if config.get("trained_betas") is not None:
        return torch.tensor(config["trained_betas"], dtype=torch.float32)
    num, start, end = (config[key] for key in ("num_train_timesteps", "beta_start", "beta_end"))
    kind = config["beta_schedule"]
    if kind == "linear":
        return torch.linspace(start, end, num, dtype=torch.float32)
    if kind == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, num, dtype=torch.float32) ** 2
    if kind == "squaredcos_cap_v2":
        signal = [math.cos((i / num + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(num + 1)]
        return torch.tensor(
            [min(1 - signal[i + 1] / signal[i], 0.999) for i in range(num)], dtype=torch.float32
        )
    raise unknown("beta_schedule", str(kind), BETA_SCHEDULES)


def draw_timesteps(num: int, num_train_timesteps: int, generator: torch.Generator) -> Tensor:
    """Draw `num` timesteps, uniform over 0 .. num_train_timesteps - 1; int64 on the generator's device."""
    return torch.randint(0, num_train_timesteps, (num,), generator=generator, device=generator.device)
