"""Which timesteps to visit: drawn for training, spaced by a scheduler for sampling.

Axes: B batch, S sampling steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fdlab.diffusion.flow import Schedule
from fdlab.errors import UserError, unknown

DENSITIES = ("uniform", "log_normal")


@dataclass(frozen=True)
class TimestepDensity:
    """How often training visits each timestep.

    "uniform", or "log_normal": log(sigma) ~ N(mean, std^2) with sigma = s_t / a_t, stratified over the batch,
    but for a share of `uniform_share` (Karras et al. 2022, arXiv 2206.00364, table 1, on discrete timesteps).
    """

    kind: str = "uniform"
    mean: float = 0.4
    std: float = 0.9
    uniform_share: float = 0.2

    def __post_init__(self) -> None:
        if self.kind not in DENSITIES:
            raise unknown("timestep density", self.kind, DENSITIES)
        if self.std <= 0:
            raise UserError(f"the deviation of log sigma is {self.std}; it must be positive.")
        if not 0.0 <= self.uniform_share <= 1.0:
            raise UserError(f"the uniform share of timesteps is {self.uniform_share}; it must lie in [0, 1].")

    def draw(self, num: int, schedule: Schedule, generator: torch.Generator) -> Tensor:
        """Draw `num` timesteps on the generator's device; int64, for flow matching real numbers.

        There the density is that before the schedule's shift: log-normal is the paper's logit-normal.
        """
        if self.kind == "uniform":
            return schedule.uniform(num, generator)
        device = generator.device
        place = torch.rand(num, generator=generator, device=device, dtype=torch.float64)
        quantile_B = (torch.randperm(num, generator=generator, device=device) + place) / num
        log_sigma_B = self.mean + self.std * math.sqrt(2.0) * torch.erfinv(2.0 * quantile_B - 1.0)
        normal_B = schedule.at_log_sigma(log_sigma_B)
        uniform_B = schedule.uniform(num, generator)
        spread_B = torch.rand(num, generator=generator, device=device) < self.uniform_share
        return torch.where(spread_B, uniform_B, normal_B)


def num_calls(timesteps_S: Tensor, schedule: Schedule, final_sigma: float = 0.0) -> int:
    """Calls of the model up to the first whose noise level s_t / a_t is `final_sigma` or less; all where none
    is. Raises UserError for a level that is none, or from the noisiest on: nothing would be drawn."""
    highest = schedule.highest_level
    if not 0.0 <= final_sigma < highest:
        raise UserError(
            f"final_sigma is {final_sigma}; it must be a number from 0 to below the model's highest noise"
            f" level ({highest:.3g})."
        )
    if not final_sigma:
        return len(timesteps_S)
    below = (schedule.level(timesteps_S) <= final_sigma).nonzero()
    return int(below[0, 0]) + 1 if len(below) else len(timesteps_S)


def sampler_timesteps(scheduler: Any, num_steps: int, device: torch.device | str | None = None) -> Tensor:
    """Set a scheduler to `num_steps` and return the timesteps it visits, from noise to picture; (S,).

    S may exceed `num_steps` (PNDM repeats one). Raises UserError for an impossible number of steps.
    """
    limit = int(scheduler.config.num_train_timesteps)
    if not 1 <= num_steps <= limit:
        raise UserError(f"num_steps is {num_steps}; it must lie between 1 and the model's {limit} timesteps.")
    counts_back = type(scheduler).__name__ in ("DDIMScheduler", "PNDMScheduler")
    if counts_back and scheduler.config.timestep_spacing == "trailing" and limit % num_steps:
        # They take t - T // num_steps for the next timestep, which trailing spacing meets only if it divides.
        raise UserError(
            f"num_steps is {num_steps}; with trailing spacing this scheduler needs a divisor of {limit}."
        )
    scheduler.set_timesteps(num_steps, device=device)
    return scheduler.timesteps


def steps_of(timesteps_S: Tensor, num_steps: int) -> list[int]:
    """Which of `num_steps`, counted from 0, each timestep belongs to: what stages and intervals go by.

    One call a step: its number. PNDM and Heun come back to a timestep, which is one step. KDPM2 visits one
    between each two, which belongs to the step before it. For others (PNDM's
    Runge-Kutta) steps are even in t.
    """
    if len(timesteps_S) == num_steps:
        return list(range(num_steps))
    times = [round(float(t), 3) for t in timesteps_S]
    falling = sorted(set(times), reverse=True)
    for between in (1, 2):
        if len(falling) == between * (num_steps - 1) + 1:
            return [falling.index(t) // between for t in times]
    span = max(falling[0] - falling[-1], 1e-9)
    return [math.floor(round((falling[0] - t) / span * (num_steps - 1), 6)) for t in times]
