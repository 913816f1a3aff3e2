"""SNF's stages with saliencies compared relative to their own mean: strength no longer costs area.

The released rule compares softmaxes over all places, so the stronger a response, the smaller the area it
wins; and each step decides anew. Here each model's saliency is divided by its mean over the picture, and what
earlier steps found is remembered.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fdlab.diffusion.guidance import Guidance
from fdlab.diffusion.guiders.model import Model
from fdlab.diffusion.guiders.staged import Masked, Predictions, Recorder, StagedFusion
from fdlab.diffusion.saliency import SaliencyOptions, response, saliency
from fdlab.diffusion.stages import Stages
from fdlab.errors import UserError


class RelativeSaliency(StagedFusion):
    """The SDM draws where Omega_S / mean(Omega_S) exceeds Omega_T / mean(Omega_T).

    `memory` in [0, 1) is the weight of earlier steps' relative saliencies (0: each step for itself). `share`
    in (0, 1) gives the SDM that share of the places, those where it exceeds most; None compares as above.
    `softness` is the difference of relative saliency over which a place passes from one model to the other
    (logistic; 0: hard).
    """

    def __init__(
        self,
        tdm: Model,
        sdm: Model,
        guidance: Guidance,
        num_steps: int,
        recorder: Recorder | None = None,
        *,
        alpha: float = 0.3,
        beta: float = 0.6,
        last_tdm_step: int | None = None,
        last_snf_step: int | None = None,
        base: str = "text",
        smoothing: str = "gaussian",
        sigma: float = 1.1,
        memory: float = 0.0,
        share: float | None = None,
        softness: float = 0.0,
    ) -> None:
        stages = Stages.choose(alpha, beta, num_steps, last_tdm_step, last_snf_step)
        super().__init__(tdm, sdm, guidance, stages, base, recorder)
        self.options = SaliencyOptions(smoothing, sigma)
        if not 0.0 <= memory < 1.0:
            raise UserError(f"memory is {memory}; it must lie in [0, 1), 1 left out.")
        if share is not None and not 0.0 < share < 1.0:
            raise UserError(f"share is {share}; it must lie between 0 and 1, or be null.")
        if not softness >= 0.0:
            raise UserError(f"softness is {softness}; it must be 0 or more.")
        self.memory, self.share, self.softness = memory, share, softness
        self._kept: tuple[Tensor, Tensor] | None = None

    def mask(self, t: Tensor, step: int, text: Predictions, subject: Predictions) -> Masked:
        """Where the SDM's relative saliency is the larger."""
        now = self._relative(*text), self._relative(*subject)
        if self._kept is not None and step > self.stages.last_tdm_step + 1:
            now = (
                torch.lerp(now[0], self._kept[0], self.memory),
                torch.lerp(now[1], self._kept[1], self.memory),
            )
        self._kept = now
        excess_B1HW = now[1] - now[0]
        if self.share is not None:
            limit_B1 = torch.quantile(excess_B1HW.flatten(1), 1.0 - self.share, dim=1, keepdim=True)
            excess_B1HW = excess_B1HW - limit_B1[..., None, None]
        if self.softness:
            return Masked(torch.sigmoid(excess_B1HW / self.softness), *now)
        return Masked((excess_B1HW > 0).to(excess_B1HW.dtype), *now)

    def _relative(self, base_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
        found_B1HW = saliency(response(base_BCHW, target_BCHW, 1.0), self.options)
        return found_B1HW / found_B1HW.mean((2, 3), keepdim=True).clamp_min(1e-12)
