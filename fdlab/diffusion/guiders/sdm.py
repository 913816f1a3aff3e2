"""The subject-augmented model alone."""

from __future__ import annotations

from torch import Tensor

from fdlab.diffusion.guidance import Guidance
from fdlab.diffusion.guiders.model import Model
from fdlab.diffusion.guiders.options import Base


class SubjectAugmented:
    """eps_S(base) + s (eps_S(c_aug) - eps_S(base)) at every step.

    base "text" is the released third stage: guidance strengthens the subject only; "null" strengthens the
    prompt too.
    """

    DESCRIPTION = "SDM alone"

    def __init__(self, sdm: Model, guidance: Guidance, *, base: Base = "text") -> None:
        self.sdm, self.guidance, self.base = sdm, guidance, base

    def __call__(self, z_BCHW: Tensor, t: Tensor, step: int) -> Tensor:
        return self.sdm.guided(z_BCHW, t, self.base, "augmented", self.guidance.at(step))
