"""Three-stage sampling with saliency-adaptive noise fusion (arXiv 2311.10329).

Axes: B batch, C latent channels, H W latent grid; K is C, or 1 where channels are averaged.
Suffix T is the text-driven model, S the subject-augmented one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from fdlab.diffusion.guidance import Guidance
from fdlab.diffusion.guiders.model import Model, check_base
from fdlab.diffusion.noise import NoiseSchedule
from fdlab.diffusion.saliency import SaliencyOptions, fuse, fusion_mask, response, saliency
from fdlab.diffusion.stages import SNF, TDM, Stages


@dataclass(frozen=True, eq=False)
class Trace:
    """What happened at one step; saliencies and mask are None in stages that call one model."""

    step: int
    t: Tensor
    stage: str
    z_BCHW: Tensor
    output_BCHW: Tensor
    saliency_T_BKHW: Tensor | None = None
    saliency_S_BKHW: Tensor | None = None
    mask_BKHW: Tensor | None = None

    @property
    def sdm_share_B(self) -> Tensor:
        """The share of places that the SDM draws, for each image; in [0, 1]."""
        if self.mask_BKHW is not None:
            return self.mask_BKHW.flatten(1).mean(1)
        return self.output_BCHW.new_full((len(self.output_BCHW),), 0.0 if self.stage == TDM else 1.0)


Recorder = Callable[[Trace], None]
"""Receives each step's trace; `list.append` will do."""


class SaliencyFusion:
    """TDM, then at each place the model whose response is the more salient there, then SDM.

    `alpha`, `beta` end the first and second stage (fractions of num_steps), unless both `last_tdm_step` and
    `last_snf_step` do. `base` is what the SDM's response and guidance start from: "text" as released, or
    "null". The rest are the fields of SaliencyOptions. With a v-predicting `schedule`, responses are
    converted to noise, so that the softmax sees the same units as with epsilon.
    """

    def __init__(
        self,
        tdm: Model,
        sdm: Model,
        guidance: Guidance,
        num_steps: int,
        schedule: NoiseSchedule | None = None,
        recorder: Recorder | None = None,
        *,
        alpha: float = 0.3,
        beta: float = 0.6,
        last_tdm_step: int | None = None,
        last_snf_step: int | None = None,
        base: str = "text",
        smoothing: str = "average",
        sigma: float = 1.1,
        reduction: str = "mean",
        temperature: float = 1.0,
        mask: str = "hard",
        tie: str = "tdm",
    ) -> None:
        self.tdm, self.sdm, self.guidance, self.base = tdm, sdm, guidance, check_base(base)
        self.stages = Stages.choose(alpha, beta, num_steps, last_tdm_step, last_snf_step)
        self.options = SaliencyOptions(smoothing, sigma, reduction, temperature, mask, tie)
        self.schedule, self.recorder = schedule, recorder

    def __call__(self, z_BCHW: Tensor, t: Tensor, step: int) -> Tensor:
        stage = self.stages.at(step)
        if stage == SNF:
            trace = self._fused(z_BCHW, t, step)
        else:
            output_BCHW = self._text(z_BCHW, t) if stage == TDM else self._subject(z_BCHW, t)
            trace = Trace(step, t, stage, z_BCHW, output_BCHW)
        if self.recorder is not None:
            self.recorder(trace)
        return trace.output_BCHW

    def _text(self, z_BCHW: Tensor, t: Tensor) -> Tensor:
        return self.tdm.guided(z_BCHW, t, "null", "text", self.guidance)

    def _subject(self, z_BCHW: Tensor, t: Tensor) -> Tensor:
        return self.sdm.guided(z_BCHW, t, self.base, "augmented", self.guidance)

    def _fused(self, z_BCHW: Tensor, t: Tensor, step: int) -> Trace:
        base_T_BCHW, target_T_BCHW = self.tdm.predict(z_BCHW, t, "null", "text")
        base_S_BCHW, target_S_BCHW = self.sdm.predict(z_BCHW, t, self.base, "augmented")
        scale = self.guidance.scale
        unit = 1.0 if self.schedule is None else self.schedule.noise_per_output(t.to(z_BCHW.device))
        saliency_T_BKHW = saliency(unit * response(base_T_BCHW, target_T_BCHW, scale), self.options)
        saliency_S_BKHW = saliency(unit * response(base_S_BCHW, target_S_BCHW, scale), self.options)
        mask_BKHW = fusion_mask(saliency_T_BKHW, saliency_S_BKHW, self.options)
        noise_T_BCHW = self.guidance(base_T_BCHW, target_T_BCHW)
        noise_S_BCHW = self.guidance(base_S_BCHW, target_S_BCHW)
        output_BCHW = fuse(noise_T_BCHW, noise_S_BCHW, mask_BKHW)
        return Trace(step, t, SNF, z_BCHW, output_BCHW, saliency_T_BKHW, saliency_S_BKHW, mask_BKHW)
