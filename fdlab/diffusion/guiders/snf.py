"""Three-stage sampling with saliency-adaptive noise fusion (arXiv 2311.10329)."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from fdlab.diffusion.flow import Schedule
from fdlab.diffusion.guidance import Guidance
from fdlab.diffusion.guiders.model import Model
from fdlab.diffusion.guiders.options import POSITIVE, Alpha, Base, Beta, LastStep, Limit
from fdlab.diffusion.guiders.staged import Masked, Predictions, Recorder, StagedFusion
from fdlab.diffusion.saliency import (
    MASKS,
    REDUCTIONS,
    SMOOTHINGS,
    TIES,
    SaliencyOptions,
    fusion_mask,
    response,
    saliency,
)
from fdlab.diffusion.stages import Stages


class SaliencyFusion(StagedFusion):
    """TDM, then at each place the model whose response is the more salient there, then SDM.

    `alpha`, `beta` end the first and second stage (fractions of num_steps), unless both `last_tdm_step` and
    `last_snf_step` do. The rest are `base` and the fields of SaliencyOptions. With a
    `schedule` of v or velocities, responses are converted to noise, so that the softmax sees the same units
    as with epsilon: what a model predicts does not change its mask.
    """

    DESCRIPTION = "TDM, then both by saliency, then SDM: the paper's"

    def __init__(
        self,
        tdm: Model,
        sdm: Model,
        guidance: Guidance,
        num_steps: int,
        schedule: Schedule | None = None,
        recorder: Recorder | None = None,
        *,
        alpha: Alpha = 0.3,
        beta: Beta = 0.6,
        last_tdm_step: LastStep = None,
        last_snf_step: LastStep = None,
        base: Base = "text",
        smoothing: Annotated[str, Limit(SMOOTHINGS)] = "average",
        sigma: Annotated[float, POSITIVE] = 1.1,
        reduction: Annotated[str, Limit(REDUCTIONS)] = "mean",
        temperature: Annotated[float, POSITIVE] = 1.0,
        mask: Annotated[str, Limit(MASKS)] = "hard",
        tie: Annotated[str, Limit(TIES)] = "tdm",
    ) -> None:
        stages = Stages.choose(alpha, beta, num_steps, last_tdm_step, last_snf_step)
        super().__init__(tdm, sdm, guidance, stages, base, recorder)
        self.options = SaliencyOptions(smoothing, sigma, reduction, temperature, mask, tie)
        self.schedule = schedule

    def mask(self, t: Tensor, step: int, text: Predictions, subject: Predictions) -> Masked:
        """The argmax of the two softmaxes (or their ratio), as `fusion_mask` has it."""
        saliency_T_BKHW, saliency_S_BKHW = (self._saliency(t, *model) for model in (text, subject))
        mask_BKHW = fusion_mask(saliency_T_BKHW, saliency_S_BKHW, self.options)
        return Masked(mask_BKHW, saliency_T_BKHW, saliency_S_BKHW)

    def _saliency(self, t: Tensor, base_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
        unit = 1.0 if self.schedule is None else self.schedule.noise_per_output(t.to(base_BCHW.device))
        return saliency(unit * response(base_BCHW, target_BCHW, self.guidance.scale), self.options)
