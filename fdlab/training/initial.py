"""Which weights a training starts from: shipped, base, scratch, or a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdlab.assets import resolve
from fdlab.config.instantiate import instantiate
from fdlab.errors import UserError
from fdlab.files import sha256
from fdlab.models import finetuned, nano
from fdlab.models.backbone import Backbone
from fdlab.models.family import check_denoiser
from fdlab.models.finetuned import BackboneSettings
from fdlab.models.parts import TRANSFORMER
from fdlab.training.denoising import DenoisingTraining
from fdlab.training.settings import FitSettings
from fdlab.weights.formats import read_json


@dataclass(frozen=True)
class Start:
    """A backbone to train, where its weights came from, and how many steps are behind them already."""

    backbone: Backbone
    origin: str
    steps: int
    taught_by: tuple[str, ...] = ()
    """Recognisers that taught these weights."""
    people: tuple[dict[str, Any], ...] = ()
    """Whom they were shown, see `data.whom`."""


def make_module(asked: FitSettings) -> tuple[Start, DenoisingTraining]:
    """Load the weights that training starts from, and what trains them."""
    start = load_start(asked)
    if asked.kind.REFERENCES:
        _check_references(asked, start.backbone)
    module: DenoisingTraining = instantiate(asked.model, backbone=start.backbone, seed=asked.seed)
    return start, module


def _check_references(asked: FitSettings, backbone: Backbone) -> None:
    given, size = asked.values["backbone"]["reference_size"], backbone.reference_size
    if given != size:
        raise UserError(
            f"backbone.reference_size={given}, but the image encoder takes pictures of {size} pixels a side;"
            f" give backbone.reference_size={size}."
        )


def load_start(asked: FitSettings) -> Start:
    """Build the backbone that `asked.init` names.

    Which folder counts for a part is `fdlab.models.finetuned`'s rule. A fusion that none of them has is new,
    from the seed. Raises UserError where weights are missing, of the wrong kind, or do not fit.
    """
    settings, seed = asked.backbone, asked.seed
    kind, references = asked.kind.KIND, asked.kind.REFERENCES
    scratch = asked.init == "scratch"
    if scratch and settings.folder("unet").name == TRANSFORMER:
        raise UserError("init=scratch makes UNets only; start from init=base, or a folder.")
    found = None if scratch else finetuned.need(settings, kind, asked.init, "init")
    if found is not None and "unet" in found.parts:
        check_denoiser(settings.name, found.parts["unet"], f"init={asked.init}")
    parts = [part for part in finetuned.PARTS[kind] if not (scratch and part == "unet")]
    overrides = settings.overrides(found.parts if found else None)
    if references and "fusion" not in overrides and not settings.folder("fusion").is_dir():
        parts.remove("fusion")
    backbone = finetuned.load(settings, found, parts)
    if scratch:
        backbone.unet = nano.build_unet(_unet_config(settings), seed)
        _complete_sizes(backbone)
    if references and backbone.fusion is None:
        projection = backbone.image_encoder.config.projection_dim
        backbone.fusion = nano.build_fusion(backbone.text_width, projection, seed)
    if found is None:
        return Start(backbone, asked.init, 0)
    backbone.brought = _brought(backbone, settings, found.parts)
    # An encoder of references that somebody taught makes their pupil of whatever learns to use it.
    encoder = overrides.get("image_encoder") or settings.folder("image_encoder")
    through = finetuned.facts(Path(encoder)).get("taught_by", ()) if references else ()
    taught_by = tuple(sorted({*found.taught_by, *through}))
    return Start(backbone, asked.init, found.steps or 0, taught_by, found.people)


def _brought(backbone: Backbone, settings: BackboneSettings, own: Mapping[str, Path]) -> tuple[str, ...]:
    """Text encoders that are the weights' own, unless the user names others, or the backbone has the same."""

    def is_the_backbones(part: str) -> bool:
        folder = settings.folder(part)
        return not settings.loras and folder.is_dir() and sha256(folder) == sha256(own[part])

    there = [part for part in backbone.text_encoders if part in own and part not in settings.named]
    return tuple(part for part in there if not is_the_backbones(part))


def _unet_config(backbone: BackboneSettings) -> dict[str, Any]:
    """The configuration of the UNet that this backbone has, or would have; empty: the nano one's own."""
    base = backbone.shipped.get("base")
    for place in (backbone.named.get("unet"), base and f"{base}/unet", f"{backbone.path}/unet"):
        if place:
            try:
                file = resolve(place) / "config.json"
            except UserError:
                continue
            if file.is_file():
                return {k: v for k, v in read_json(file).items() if not k.startswith("_")}
    return {}


def _complete_sizes(backbone: Backbone) -> None:
    """A UNet made here tells what no file could."""
    side = int(backbone.unet.config.sample_size)
    if not backbone.latent_shape_CHW[0] or not backbone.latent_shape_CHW[1]:
        backbone.latent_shape_CHW = (int(backbone.unet.config.in_channels), side, side)
    backbone.tell_unet_its_size()
