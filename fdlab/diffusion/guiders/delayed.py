"""FastComposer's delayed subject conditioning: one model, the prompt first, its subjects later."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from fdlab.diffusion.guidance import Guidance
from fdlab.diffusion.guiders.model import Model
from fdlab.diffusion.guiders.options import share
from fdlab.diffusion.stages import last_step


class DelayedConditioning:
    """The SDM, null-prompt guided: to the text while step <= (1 - a) num_steps, then to the augmented.

    `subject_fraction` is FastComposer's (arXiv 2305.10431) a: 0.5 in its evaluation, 0.7 in its demo.
    """

    DESCRIPTION = "SDM alone, its subjects from a step on: FastComposer's"

    def __init__(
        self,
        sdm: Model,
        guidance: Guidance,
        num_steps: int,
        *,
        subject_fraction: Annotated[float, share("share of the steps, the last, that see subjects")] = 0.5,
    ) -> None:
        self.sdm, self.guidance = sdm, guidance
        self.last_text_step = last_step(1.0 - subject_fraction, num_steps)

    def __call__(self, z_BCHW: Tensor, t: Tensor, step: int) -> Tensor:
        target = "text" if step <= self.last_text_step else "augmented"
        return self.sdm.guided(z_BCHW, t, "null", target, self.guidance.at(step))
