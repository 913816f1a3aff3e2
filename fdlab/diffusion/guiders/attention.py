"""Three stages with a mask from cross-attention: the places that look at a subject's word go to the SDM.

Axes: B batch, C latent channels, H W latent grid, L tokens.
"""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from fdlab.diffusion.guidance import Guidance
from fdlab.diffusion.guiders.model import Model
from fdlab.diffusion.guiders.options import Alpha, Base, Beta, LastStep, Limit
from fdlab.diffusion.guiders.staged import Masked, Predictions, Recorder, StagedFusion
from fdlab.diffusion.stages import Stages


class AttentionUnion(StagedFusion):
    """Where any subject's attention exceeds `threshold` of its maximum, in any of the chosen models, the SDM.

    Maps are averaged over heads and layers, and scaled for each subject to [0, 1] over the picture. `maps`
    chooses whose: both, tdm or sdm.
    """

    DESCRIPTION = "the three stages, masks from attention to the subjects"
    LOOKS_AT_ATTENTION = True
    MAPS = ("attention", "to the subjects' words", "to the subjects' words")

    def __init__(
        self,
        tdm: Model,
        sdm: Model,
        guidance: Guidance,
        num_steps: int,
        recorder: Recorder | None = None,
        *,
        alpha: Alpha = 0.3,
        beta: Beta = 0.6,
        last_tdm_step: LastStep = None,
        last_snf_step: LastStep = None,
        base: Base = "text",
        maps: Annotated[str, Limit(("both", "tdm", "sdm"))] = "both",
        threshold: Annotated[float, Limit(above=0, below=1)] = 0.5,
    ) -> None:
        stages = Stages.choose(alpha, beta, num_steps, last_tdm_step, last_snf_step)
        super().__init__(tdm, sdm, guidance, stages, base, recorder)
        self.maps, self.threshold = maps, threshold

    def both(self, z_BCHW: Tensor, t: Tensor) -> tuple[Predictions, Predictions]:
        """Both models' predictions; keeps their attention to the subjects."""
        text, self._looks_T_B1HW = self.tdm.attending(z_BCHW, t, "null", "text")
        subject, self._looks_S_B1HW = self.sdm.attending(z_BCHW, t, self.base, "augmented")
        return Predictions(*text), Predictions(*subject)

    def mask(self, t: Tensor, step: int, text: Predictions, subject: Predictions) -> Masked:
        """Union of the thresholded maps."""
        looks = {"tdm": self._looks_T_B1HW, "sdm": self._looks_S_B1HW}
        chosen = looks.values() if self.maps == "both" else (looks[self.maps],)
        mask_B1HW = sum((map_B1HW > self.threshold).float() for map_B1HW in chosen)
        assert isinstance(mask_B1HW, Tensor)
        return Masked(mask_B1HW.clamp(max=1.0), *looks.values())
