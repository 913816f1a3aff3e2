"""Which weights a training starts from: shipped, base, scratch, or a folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdlab.assets import resolve
from fdlab.errors import UserError
from fdlab.models import nano
from fdlab.models.backbone import Backbone, load_backbone, part_folders

TRAINING = "training.json"
"""Beside a model's parts: {"steps": optimiser steps behind it, ...}."""
NETWORKS = ("vae", "text_encoder", "image_encoder", "unet", "fusion")


@dataclass(frozen=True)
class Start:
    """A backbone to train, where its weights came from, and how many steps are behind them already."""

    backbone: Backbone
    origin: str
    steps: int


def load_start(cfg: Any, kind: str, references: bool) -> Start:
    """Build the backbone that `cfg.init` asks for; `kind` is "tdm" or "sdm".

    Parts named in `cfg.backbone` count most, then those of the model to start from, then those of
    `cfg.backbone.path`. A fusion that none of them has is new, from the seed. Raises UserError where weights
    are missing or do not
    fit.
    """
    folder = _folder(cfg, kind)
    overrides: dict[str, Path | str] = dict(part_folders(folder)) if folder else {}
    overrides |= {part: cfg.backbone[part] for part in NETWORKS if cfg.backbone.get(part)}
    parts = ["vae", "text_encoder", "tokenizer", "scheduler"]
    parts += ["unet"] if cfg.init != "scratch" else []
    if references:
        parts += ["image_encoder"]
        parts += ["fusion"] if _has_fusion(cfg, overrides) else []
    backbone = load_backbone(
        cfg.backbone.path,
        {part: path for part, path in overrides.items() if part in parts},
        parts,
        name=cfg.backbone.name,
        image_size=cfg.backbone.get("image_size"),
    )
    if cfg.init == "scratch":
        backbone.unet = nano.build_unet(_unet_config(cfg), int(cfg.seed))
        _complete_sizes(backbone)
    if references and backbone.fusion is None:
        width = backbone.text_encoder.config.hidden_size
        backbone.fusion = nano.build_fusion(
            width, backbone.image_encoder.config.projection_dim, int(cfg.seed)
        )
    return Start(backbone, str(cfg.init), _steps(folder))


def _folder(cfg: Any, kind: str) -> Path | None:
    """Folder of the model to start from; None where the backbone's own parts are all there is."""
    if cfg.init == "scratch":
        return None
    if cfg.init in ("shipped", "base"):
        given = cfg.backbone.get(kind if cfg.init == "shipped" else "base")
        if given is None and cfg.init == "shipped":
            raise UserError(
                f"backbone '{cfg.backbone.name}' ships no {kind.upper()}; start with init=base, "
                "or init=FOLDER."
            )
        return None if given is None else resolve(given)
    folder = Path(cfg.init).expanduser()
    return folder / "model" if (folder / "model").is_dir() else folder


def _has_fusion(cfg: Any, overrides: dict[str, Path | str]) -> bool:
    return "fusion" in overrides or (resolve(cfg.backbone.path) / "fusion").is_dir()


def _unet_config(cfg: Any) -> dict[str, Any]:
    """The configuration of the UNet that this backbone has, or would have; empty: the nano one's own."""
    for place in (
        cfg.backbone.get("unet"),
        cfg.backbone.get("base") and f"{cfg.backbone.base}/unet",
        f"{cfg.backbone.path}/unet",
    ):
        if place:
            try:
                file = resolve(place) / "config.json"
            except UserError:
                continue
            if file.is_file():
                return {k: v for k, v in json.loads(file.read_text()).items() if not k.startswith("_")}
    return {}


def _complete_sizes(backbone: Backbone) -> None:
    """A UNet made here tells what no file could."""
    side = int(backbone.unet.config.sample_size)
    if not backbone.latent_shape_CHW[0] or not backbone.latent_shape_CHW[1]:
        backbone.latent_shape_CHW = (int(backbone.unet.config.in_channels), side, side)


def _steps(folder: Path | None) -> int:
    path = folder / TRAINING if folder else None
    return int(json.loads(path.read_text()).get("steps") or 0) if path and path.is_file() else 0
