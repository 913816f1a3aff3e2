"""The three stages, with any rule for which model draws what while both are at work.

Axes: B batch, C latent channels, H W latent grid; K is C, or 1 where all channels share a mask.
Suffix T is the text-driven model, S the subject-augmented one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor

from fdlab.diffusion.guidance import Guidance
from fdlab.diffusion.guiders.model import Model
from fdlab.diffusion.saliency import fuse
from fdlab.diffusion.stages import SNF, TDM, Stages


@dataclass(frozen=True, eq=False)
class Trace:
    """What happened at one step; saliencies and mask are None in stages that call one model."""

    step: int
    t: Tensor
    stage: str
    z_BCHW: Tensor
    """Latents as the models saw them."""
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


class Predictions(NamedTuple):
    """One model's predictions without and with its condition."""

    base_BCHW: Tensor
    target_BCHW: Tensor


class Masked(NamedTuple):
    """Which model draws what, and the saliencies it was decided by."""

    mask_BKHW: Tensor
    """The SDM's share of each place, in [0, 1]."""
    saliency_T_BKHW: Tensor
    saliency_S_BKHW: Tensor


class StagedFusion:
    """TDM while step <= last_tdm_step, both fused while step <= last_snf_step, then SDM.

    A rule is a subclass with a `mask`, and with a `both` of its own where it needs more than the predictions.
    `base` is what the SDM's response and guidance start from: "text" as released, or "null".
    """

    MAPS: ClassVar[tuple[str, str, str]] = ("saliency", "what the prompt changes", "what {subject}")
    """What the two maps are called that a mask is made of, and what the TDM's and the SDM's show."""

    def __init__(
        self,
        tdm: Model,
        sdm: Model,
        guidance: Guidance,
        stages: Stages,
        base: str = "text",
        recorder: Recorder | None = None,
    ) -> None:
        self.tdm, self.sdm, self.guidance, self.base = tdm, sdm, guidance, base
        self.stages, self.recorder = stages, recorder

    def mask(self, t: Tensor, step: int, text: Predictions, subject: Predictions) -> Masked:
        """Decide who draws what, from the TDM's and the SDM's predictions."""
        raise NotImplementedError

    def both(self, z_BCHW: Tensor, t: Tensor) -> tuple[Predictions, Predictions]:
        """Both models' predictions, each in one call."""
        text = Predictions(*self.tdm.predict(z_BCHW, t, "null", "text"))
        return text, Predictions(*self.sdm.predict(z_BCHW, t, self.base, "augmented"))

    def __call__(self, z_BCHW: Tensor, t: Tensor, step: int) -> Tensor:
        stage, guidance = self.stages.at(step), self.guidance.at(step)
        if stage == SNF:
            text, subject = self.both(z_BCHW, t)
            masked = self.mask(t, step, text, subject)
            output_BCHW = fuse(guidance(*text), guidance(*subject), masked.mask_BKHW)
            saliencies = masked.saliency_T_BKHW, masked.saliency_S_BKHW
            trace = Trace(step, t, SNF, z_BCHW, output_BCHW, *saliencies, masked.mask_BKHW)
        elif stage == TDM:
            output_BCHW = self.tdm.guided(z_BCHW, t, "null", "text", guidance)
            trace = Trace(step, t, stage, z_BCHW, output_BCHW)
        else:
            output_BCHW = self.sdm.guided(z_BCHW, t, self.base, "augmented", guidance)
            trace = Trace(step, t, stage, z_BCHW, output_BCHW)
        if self.recorder is not None:
            self.recorder(trace)
        return trace.output_BCHW
