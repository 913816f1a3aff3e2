"""Who draws for the page: the models that `fdlab sample` would draw with."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fdlab.config.compose import compose
from fdlab.config.overrides import quoted
from fdlab.diffusion.settings import SamplerSettings
from fdlab.exchange.unpacking import read_backbone
from fdlab.models import finetuned
from fdlab.pipeline.artist import Artist


def load_artist(
    tdm: str = "shipped",
    sdm: str = "shipped",
    backbone: str = "nano",
    device: str | None = None,
    overrides: Sequence[str] = (),
) -> Artist:
    """An artist with both models, on a GPU where there is one. Raises: UserError."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    words = [f"tdm={quoted(tdm)}", f"sdm={quoted(sdm)}", f"backbone={backbone}"]
    cfg = compose(["prompt=x", *words, *overrides], config_name="sample")
    parts = read_backbone(cfg.backbone, cfg.paths.cache)
    settings = SamplerSettings.from_mapping(cfg.sampler)
    found = finetuned.need_all(parts, {"tdm": cfg.tdm, "sdm": cfg.sdm})
    return Artist.load(parts, found, settings, background=cfg.data.background, device=device)
