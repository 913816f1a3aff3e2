"""The plain average of both models' noise at every step and place: what a fusion rule has to beat."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from fdlab.diffusion.guidance import Guidance
from fdlab.diffusion.guiders.model import Model
from fdlab.diffusion.guiders.options import Base, share


class Average:
    """(1 - w) guided_T + w guided_S with w = `sdm_share` in [0, 1]."""

    DESCRIPTION = "both models everywhere, in fixed shares"

    def __init__(
        self,
        tdm: Model,
        sdm: Model,
        guidance: Guidance,
        *,
        sdm_share: Annotated[float, share("weight of the SDM, everywhere alike")] = 0.5,
        base: Base = "text",
    ) -> None:
        self.tdm, self.sdm, self.guidance = tdm, sdm, guidance
        self.sdm_share, self.base = sdm_share, base

    def __call__(self, z_BCHW: Tensor, t: Tensor, step: int) -> Tensor:
        noise_T_BCHW = self.tdm.guided(z_BCHW, t, "null", "text", self.guidance.at(step))
        noise_S_BCHW = self.sdm.guided(z_BCHW, t, self.base, "augmented", self.guidance.at(step))
        return torch.lerp(noise_T_BCHW, noise_S_BCHW, self.sdm_share)
