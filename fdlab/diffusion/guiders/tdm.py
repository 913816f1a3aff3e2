"""The text-driven model alone; with a base model's denoiser, the baseline without references."""

from __future__ import annotations

from torch import Tensor

from fdlab.diffusion.guidance import Guidance
from fdlab.diffusion.guiders.model import Model


class TextDriven:
    """eps_T(0) + s (eps_T(c) - eps_T(0)) at every step."""

    DESCRIPTION = "TDM alone, which draws no given person"

    def __init__(self, tdm: Model, guidance: Guidance) -> None:
        self.tdm, self.guidance = tdm, guidance

    def __call__(self, z_BCHW: Tensor, t: Tensor, step: int) -> Tensor:
        return self.tdm.guided(z_BCHW, t, "null", "text", self.guidance.at(step))
