"""The pipeline that the page draws with, and a scheduler that keeps what it predicts at each step."""

from __future__ import annotations

from functools import wraps
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from fdlab.config.compose import compose
from fdlab.config.overrides import quoted
from fdlab.models import finetuned
from fdlab.models.finetuned import BackboneSettings
from fdlab.pipeline.face_diffuser import FaceDiffuserPipeline
from fdlab.sampling.plan import find_weights


class WatchedDDIM(DDIMScheduler):
    """DDIM that keeps the clean latents it predicted last; guiders that do not fuse leave no other trace."""

    clean_BCHW: Tensor | None = None

    @wraps(DDIMScheduler.step)
    def step(self, *args: Any, **kwargs: Any) -> Any:
        """One step, as DDIM's."""
        found = super().step(*args, **kwargs)
        self.clean_BCHW = found[1]
        return found


def load_pipeline(
    tdm: str = "shipped", sdm: str = "shipped", backbone: str = "nano", device: str | None = None
) -> FaceDiffuserPipeline:
    """The models that `fdlab sample` would draw with; on a GPU where there is one. Raises: UserError."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    words = [f"tdm={quoted(tdm)}", f"sdm={quoted(sdm)}", f"backbone={backbone}"]
    cfg = compose(["prompt=x", *words], config_name="sample")
    found = find_weights(cfg, ("tdm", "sdm"))
    settings = BackboneSettings.from_mapping(cfg.backbone)
    models = {
        kind: finetuned.load(settings, model, finetuned.PARTS[kind], device) for kind, model in found.items()
    }
    pipeline = FaceDiffuserPipeline.from_backbones(**models)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(device)
    if device != "cpu":
        # As `fdlab sample` draws there.
        for unet in (pipeline.tdm_unet, pipeline.sdm_unet):
            unet.to(torch.bfloat16)
    return pipeline
