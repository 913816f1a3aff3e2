"""Three stages with a mask from cross-attention: the places that look at a subject's word go to the SDM.

Axes: B batch, C latent channels, H W latent grid, L tokens.
"""

from __future__ import annotations

from torch import Tensor

from fdlab.diffusion.guidance import Guidance
from fdlab.diffusion.guiders.model import Model
from fdlab.diffusion.guiders.staged import Masked, Predictions, Recorder, StagedFusion
from fdlab.diffusion.stages import Stages
from fdlab.errors import UserError, unknown

MAPS = ("both", "tdm", "sdm")


class AttentionUnion(StagedFusion):
    """Where any subject's attention exceeds `threshold` of its maximum, in any of the chosen models, the SDM.

    Maps are averaged over heads and layers, and scaled for each subject to [0, 1] over the picture. `maps`
    chooses whose: both, tdm or sdm.
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
        maps: str = "both",
        threshold: float = 0.5,
    ) -> None:
        stages = Stages.choose(alpha, beta, num_steps, last_tdm_step, last_snf_step)
        super().__init__(tdm, sdm, guidance, stages, base, recorder)
        if maps not in MAPS:
            raise unknown("choice of attention maps", maps, MAPS)
        if not 0.0 < threshold < 1.0:
            raise UserError(f"threshold is {threshold}; it must lie between 0 and 1.")
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
