"""A hard switch: the text-driven model first, the subject-augmented one from a step on, and no fusion."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from fdlab.diffusion.guidance import Guidance
from fdlab.diffusion.guiders.model import Model
from fdlab.diffusion.guiders.options import Base, LastStep, share
from fdlab.diffusion.stages import last_step


class Switch:
    """guided_T while step <= `fraction` of num_steps (or `last_tdm_step`, if given), then guided_S."""

    DESCRIPTION = "TDM, then SDM, without fusion"

    def __init__(
        self,
        tdm: Model,
        sdm: Model,
        guidance: Guidance,
        num_steps: int,
        *,
        fraction: Annotated[float, share("share of the steps, the TDM's up to there")] = 0.3,
        last_tdm_step: LastStep = None,
        base: Base = "text",
    ) -> None:
        self.tdm, self.sdm, self.guidance, self.base = tdm, sdm, guidance, base
        self.last_tdm_step = last_step(fraction, num_steps) if last_tdm_step is None else last_tdm_step

    def __call__(self, z_BCHW: Tensor, t: Tensor, step: int) -> Tensor:
        if step <= self.last_tdm_step:
            return self.tdm.guided(z_BCHW, t, "null", "text", self.guidance.at(step))
        return self.sdm.guided(z_BCHW, t, self.base, "augmented", self.guidance.at(step))
