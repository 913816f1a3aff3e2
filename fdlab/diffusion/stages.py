"""The three stages of sampling, and where they end.

z_T --TDM--> z_{T(1-alpha)} --both, fused--> z_{T(1-beta)} --SDM--> z_0. As released, boundaries are indices
of steps, counted from 0 and inclusive: TDM while step <= last_tdm_step, fusion while step <= last_snf_step,
SDM afterwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fdlab.errors import UserError

TDM, SNF, SDM = "tdm", "snf", "sdm"


def last_step(fraction: float, num_steps: int) -> int:
    """The last step i <= fraction * num_steps, as the released code compares; exact for decimals."""
    return math.floor(round(fraction * num_steps, 6))


@dataclass(frozen=True)
class Stages:
    """Inclusive last steps of the first two stages; -1 <= last_tdm_step <= last_snf_step.

    last_tdm_step = -1 leaves the first stage out, equal values the second, last_snf_step >= num_steps - 1 the
    third.
    """

    last_tdm_step: int
    last_snf_step: int

    def __post_init__(self) -> None:
        if self.last_tdm_step < -1 or self.last_snf_step < self.last_tdm_step:
            raise UserError(
                f"last_tdm_step is {self.last_tdm_step} and last_snf_step {self.last_snf_step}; "
                "allowed: -1 <= last_tdm_step <= last_snf_step."
            )

    @classmethod
    def from_fractions(cls, alpha: float, beta: float, num_steps: int) -> Stages:
        """Stages that end at the fractions 0 <= alpha < beta <= 1 of `num_steps`."""
        if not 0.0 <= alpha < beta <= 1.0:
            raise UserError(f"alpha is {alpha} and beta {beta}; allowed: 0 <= alpha < beta <= 1.")
        return cls(last_step(alpha, num_steps), last_step(beta, num_steps))

    @classmethod
    def choose(
        cls,
        alpha: float,
        beta: float,
        num_steps: int,
        last_tdm_step: int | None = None,
        last_snf_step: int | None = None,
    ) -> Stages:
        """Stages from fractions, or from both step indices where they are given."""
        if last_tdm_step is None and last_snf_step is None:
            return cls.from_fractions(alpha, beta, num_steps)
        if last_tdm_step is None or last_snf_step is None:
            raise UserError(
                "give both last_tdm_step and last_snf_step, or neither (then alpha and beta count)."
            )
        return cls(last_tdm_step, last_snf_step)

    def at(self, step: int) -> str:
        """The stage of a step: "tdm", "snf" or "sdm"."""
        if step <= self.last_tdm_step:
            return TDM
        return SNF if step <= self.last_snf_step else SDM
