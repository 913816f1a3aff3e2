"""Classifier-free guidance and its rescaling.

Axes: B batch, C latent channels, H W latent grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from fdlab.diffusion.precision import at_least_float32
from fdlab.errors import UserError


def classifier_free(base_BCHW: Tensor, target_BCHW: Tensor, scale: float) -> Tensor:
    """base + scale (target - base) (Ho & Salimans 2022, eq. 6, scale = 1 + w); scale 1 is the target."""
    return base_BCHW + scale * (target_BCHW - base_BCHW)


def rescale(guided_BCHW: Tensor, target_BCHW: Tensor, amount: float) -> Tensor:
    """Bring the guided output's standard deviation back to the target's (Lin et al. 2024, section 3.4).

    `amount` in [0, 1] mixes the rescaled with the unchanged output; the paper uses 0.7. Each sample for
    itself.
    """
    if amount == 0.0:
        return guided_BCHW
    axes = tuple(range(1, guided_BCHW.dim()))
    wanted = target_BCHW.std(dim=axes, keepdim=True)
    present = guided_BCHW.std(dim=axes, keepdim=True)
    return guided_BCHW * (amount * wanted / present + (1.0 - amount))


@dataclass(frozen=True)
class Guidance:
    """How a base and a target prediction become one: guidance of `scale`, rescaled by `rescale`.

    Only in steps from `first_step` to `last_step` (None: to the end), both inclusive: early guidance costs
    variety, late guidance does nothing (Kynkaanniemi et al. 2024, section 3).
    """

    scale: float
    rescale: float = 0.0
    first_step: int = 0
    last_step: int | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale >= 0):
            raise UserError(
                f"guidance_scale is {self.scale}; it must be a number of 0 or more (1 is no guidance)."
            )
        if not 0.0 <= self.rescale <= 1.0:
            raise UserError(f"guidance_rescale is {self.rescale}; it must lie in [0, 1] (0 is off).")

    @classmethod
    def between(cls, scale: float, rescale: float, start: float, end: float, num_steps: int) -> Guidance:
        """Guidance from the fraction `start` of the steps to the fraction `end`; 0 <= start < end <= 1."""
        if not 0.0 <= start < end <= 1.0:
            raise UserError(
                f"guidance_start is {start} and guidance_end {end};"
                " allowed: 0 <= guidance_start < guidance_end <= 1."
            )
        last_step = None if end == 1.0 else math.ceil(round(end * num_steps, 6)) - 1
        return cls(scale, rescale, math.ceil(round(start * num_steps, 6)), last_step)

    def at(self, step: int) -> Guidance:
        """The guidance of a step: this one, or none (scale 1) outside the interval."""
        inside = self.first_step <= step and (self.last_step is None or step <= self.last_step)
        return self if inside else Guidance(1.0)

    @property
    def needs_base(self) -> bool:
        """False when the base prediction has no weight and need not be computed."""
        return self.scale != 1.0

    def __call__(self, base_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
        """The guided prediction, in float32 at least."""
        base_BCHW, target_BCHW = at_least_float32(base_BCHW), at_least_float32(target_BCHW)
        return rescale(classifier_free(base_BCHW, target_BCHW, self.scale), target_BCHW, self.rescale)
