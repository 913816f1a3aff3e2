"""Flow matching's forward process: the straight way from a picture to noise (Stable Diffusion 3).

Axes: B batch, C latent channels, H W latent grid. At noise level sigma in [0, 1]: z = (1 - sigma) z_0 + sigma
eps, and the model predicts the velocity dz / dsigma = eps - z_0 (Esser et al. 2024, arXiv 2403.03206, section
2; Liu et al. 2023). A timestep is T sigma, any real number. In the words of `noise`: a_t = 1 - sigma, s_t =
sigma.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fdlab.diffusion.noise import NoiseSchedule
from fdlab.errors import UserError

FLOW = "flow_prediction"
"""What such a model predicts, as diffusers' schedulers call it."""


@dataclass(frozen=True, eq=False)
class FlowSchedule:
    """Signal and noise at every timestep of flow matching: what `NoiseSchedule` is to training."""

    num_timesteps: int = 1000
    shift: float = 1.0
    """Moves what is drawn for training to more noise, as larger pictures need it (section 5.3.2)."""
    prediction_type: ClassVar[str] = FLOW
    highest_level: ClassVar[float] = math.inf
    """Noise level s_t / a_t of the last timestep, which is noise alone."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> FlowSchedule:
        """Build from a diffusers scheduler config. Raises: UserError for a shift that depends on the size."""
        if config.get("use_dynamic_shifting"):
            raise UserError(
                "the scheduler has use_dynamic_shifting=true, noise that depends on the picture's size;"
                " only a fixed shift is supported."
            )
        shift = config.get("shift") or config.get("flow_shift") or 1.0
        return cls(int(config.get("num_train_timesteps") or 1000), float(shift))

    def to(self, device: torch.device | str) -> FlowSchedule:
        """The same: it has no table."""
        return self

    def at_log_sigma(self, log_sigma_B: Tensor) -> Tensor:
        """Timesteps of shifted noise levels, float32: before the shift, log(s_t / a_t) is `log_sigma_B`.

        A normal distribution of it is the logit-normal one of section 3.1; the shift adds log(shift).
        """
        return self.num_timesteps * self._shifted(torch.sigmoid(log_sigma_B.double())).float()

    def uniform(self, num: int, generator: torch.Generator) -> Tensor:
        """Timesteps (num,) that are uniform before the shift; float32 on the generator's device."""
        place = torch.rand(num, generator=generator, device=generator.device, dtype=torch.float64)
        return self.num_timesteps * self._shifted(place).float()

    def level(self, t: Tensor) -> Tensor:
        """Noise level s_t / a_t of timesteps; infinite where no signal is left."""
        sigma = self._sigma(t)
        return sigma / (1.0 - sigma)

    def add_noise(self, z0_BCHW: Tensor, eps_BCHW: Tensor, t_B: Tensor) -> Tensor:
        """z_t, in the dtype of `z0_BCHW`."""
        sigma_B111 = self._sigma_like(t_B, z0_BCHW)
        return ((1.0 - sigma_B111) * z0_BCHW + sigma_B111 * eps_BCHW).to(z0_BCHW.dtype)

    def target(self, z0_BCHW: Tensor, eps_BCHW: Tensor, t_B: Tensor) -> Tensor:
        """What the model should predict: eps - z_0, at every timestep."""
        return (eps_BCHW - z0_BCHW).to(z0_BCHW.dtype)

    def snr(self, t_B: Tensor) -> Tensor:
        """Signal-to-noise ratio a_t^2 / s_t^2 at each timestep."""
        return 1.0 / self.level(t_B).square()

    def clean(self, z_BCHW: Tensor, output_BCHW: Tensor, t_B: Tensor) -> Tensor:
        """The clean latent z_0 that a velocity implies: z - sigma v."""
        return (z_BCHW - self._sigma_like(t_B, z_BCHW) * output_BCHW).to(z_BCHW.dtype)

    def clean_at(self, z_BCHW: Tensor, output_BCHW: Tensor, t: float) -> Tensor:
        """`clean` of a whole batch at one `t`."""
        return self.clean(z_BCHW, output_BCHW.to(z_BCHW.dtype), torch.tensor([t]))

    def noise(self, z_BCHW: Tensor, output_BCHW: Tensor, t_B: Tensor) -> Tensor:
        """The noise eps that a velocity implies: z + (1 - sigma) v."""
        return (z_BCHW + (1.0 - self._sigma_like(t_B, z_BCHW)) * output_BCHW).to(z_BCHW.dtype)

    def noise_per_output(self, t: Tensor) -> Tensor:
        """d eps / d output at `t`: a_t, as for v. Turns a difference of velocities into noise."""
        return 1.0 - self._sigma(t)

    def _sigma(self, t: Tensor) -> Tensor:
        return t.float() / self.num_timesteps

    def _sigma_like(self, t_B: Tensor, like_BCHW: Tensor) -> Tensor:
        return self._sigma(t_B.to(like_BCHW.device)).view((-1,) + (1,) * (like_BCHW.dim() - 1))

    def _shifted(self, sigma: Tensor) -> Tensor:
        """Equation 23: the level at which `shift` squared as many pixels look as noisy."""
        return self.shift * sigma / (1.0 + (self.shift - 1.0) * sigma)


Schedule = NoiseSchedule | FlowSchedule


def is_flow(config: Mapping[str, Any]) -> bool:
    """Whether a scheduler's config is one of flow matching: it says so, or has a shift and no betas."""
    return config.get("prediction_type") == FLOW or ("shift" in config and "beta_start" not in config)


def predicts(config: Mapping[str, Any]) -> str:
    """What a model predicts, by its scheduler's config."""
    return FLOW if is_flow(config) else str(config.get("prediction_type", "epsilon"))


def schedule_of(config: Mapping[str, Any]) -> Schedule:
    """The noise schedule that a diffusers scheduler config means. Raises: UserError."""
    return FlowSchedule.from_config(config) if is_flow(config) else NoiseSchedule.from_config(config)
