"""The pictures that a training is shown: found, rendered or encoded first where that is asked for."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch

from fdlab.caches.contents import contents
from fdlab.caches.embedded import EmbeddedReferences, EmbeddedTexts, embed_all, embed_texts
from fdlab.caches.prepare import prepare
from fdlab.caches.prepared import Prepared
from fdlab.config.directory import is_main_process
from fdlab.config.seen import Seen
from fdlab.data.batches import BatchSettings
from fdlab.data.beside import Classes
from fdlab.data.entry import FaceReader, Live, Shape, Source
from fdlab.data.folder import FastComposerFolder, Folder, check_complete, is_rendered
from fdlab.data.latents import weights_hash
from fdlab.data.rendered import ensure_people, mend
from fdlab.data.sample import CorruptFile
from fdlab.errors import UserError
from fdlab.layouts.choose import check_teaches, open_folder
from fdlab.measure.faces import HeadCrop
from fdlab.models.backbone import Backbone
from fdlab.models.conditioning import embed_references, encode_text
from fdlab.models.denoiser import grid_step
from fdlab.training import class_pictures
from fdlab.training.denoising import DenoisingTraining
from fdlab.training.settings import DataSettings, FitSettings, check_kept
from fdlab.transforms.buckets import assigned, shapes
from fdlab.transforms.framing import Size
from fdlab.transforms.references import DRAWN, Background

DIGITS = 16
"""Of a sample's digest that are kept with a run."""


def seen(cfg: Any) -> Seen | None:
    """What of a training's data is the user's own, in the first process alone; None: nothing is, as what is
    rendered or drawn follows from the configuration."""
    if not is_main_process():
        return None
    data = DataSettings.read(cfg.data, cfg.paths.cache)
    found: dict[str, dict[str, str]] = {}
    # Where pictures are encoded, or their sizes asked for, all of them is read anyway, and found again.
    pieces = not (data.cache_latents or data.shapes == "buckets")
    if data.kind != "people":
        folder = open_folder(data.root, data.kind, data.caption)
        found["data.root"] = _digests(folder, folder.ids(data.split), data.cache, pieces)
    if cfg.model.get("prior_weight") and data.prior.root is not None:
        own = class_pictures.own(data.prior)
        found["data.prior.root"] = {} if own is None else _digests(*own, data.cache, pieces)
    return Seen(pieces, found) if found else None


def _digests(folder: Folder, ids: list[str], cache: Path, pieces: bool) -> dict[str, str]:
    try:
        digest_P16 = contents(folder, ids, cache, pieces=pieces).digest_P16
    except OSError:
        # A cache that is there may be one that is only read.
        with TemporaryDirectory() as place:
            digest_P16 = np.array(contents(folder, ids, Path(place), pieces=pieces).digest_P16)
    return {id: digest_16.tobytes().hex()[:DIGITS] for id, digest_16 in zip(ids, digest_P16, strict=True)}


def make_source(
    data: DataSettings,
    backbone: Backbone,
    references: bool,
    device: torch.device,
    reader: FaceReader | None = None,
) -> tuple[Folder, Source]:
    """The data folder (rendered if it has to be) and its rows, encoded once (on `device`) or read anew; with
    faces where there is a reader."""
    shape = Shape(
        image_size=int(backbone.image_size),
        latent_CHW=backbone.latent_shape_CHW,
        reference_size=backbone.reference_size if references else None,
        max_subjects=data.max_subjects if references else 0,
    )
    check_kept(data)
    if data.size != shape.image_size:
        raise UserError(f"data.size={data.size}: the backbone works at {shape.image_size} pixels.")
    if data.kind == "people":
        made = (data.root, data.mix, data.num, data.seed, data.size)
        folder: Folder = FastComposerFolder(ensure_people(*made, workers=data.render_workers))
    else:
        folder = open_folder(data.root, data.kind, data.caption)
        check_teaches(folder, references)
    sizes = _sizes(data, backbone, folder) if data.shapes == "buckets" else None
    crop = HeadCrop() if references and backbone.reference_crop == "head" else None
    if data.cache_latents:
        make = partial(
            prepare, folder, data.cache, backbone.vae, backbone.tokenizer, shape, data.split, data.mirror,
            device=device, labels=data.labels, crop=crop, reader=reader, sizes=sizes,
        )  # fmt: skip
        try:
            return folder, make(skip_corrupt=data.skip_corrupt)
        except CorruptFile:
            whole = data.kind == "people" and not mend(folder.root)
            if data.kind != "people" or (whole and crop is None):
                raise
            # A rendered picture that can be read lacks nothing but a face that is found: it is left out.
            return folder, make(skip_corrupt=crop is not None)
    check_complete(folder)
    views, ids = 2 if data.mirror else 1, folder.ids(data.split)
    rendered = is_rendered(folder.root)
    asked = (views, rendered, data.labels, crop, reader, data.framing, sizes)
    return folder, Live(folder, ids, backbone.tokenizer, shape, *asked)


def make_classes(
    module: DenoisingTraining, settings: FitSettings, pictures: Folder, device: torch.device
) -> Classes | None:
    """Pictures of anybody beside those of the training, where they are asked for: drawn first, if they lack;
    shown and kept as those are."""
    if not module.prior_weight:
        return None
    data, backbone = settings.data, settings.backbone
    root = class_pictures.ensure(data, backbone, settings.prior_sampler, pictures, device)
    caption = class_pictures.caption_for(root, data.prior)
    data = replace(data, kind="folder", root=root, split="train", labels=None, caption=caption)
    _, source = make_source(data, module.backbone, False, device)
    return Classes(source, embedded_texts(module, source, data, device))


def _sizes(data: DataSettings, backbone: Backbone, folder: Folder) -> list[Size]:
    """Pixels that each picture is shown at: of the denoiser's whole units, the shape nearest to its own."""
    side = int(backbone.image_size)
    unit = side // backbone.latent_shape_CHW[1] * grid_step(backbone.unet.config)
    sizes = contents(folder, folder.ids(data.split), data.cache).sizes
    return assigned(sizes, shapes(side, unit, data.longest))


def embedded(
    module: DenoisingTraining, source: Source, data: DataSettings, device: torch.device
) -> EmbeddedReferences | None:
    """Every reference's embedding, where a training needs no other: its encoder rests, references are kept
    and nothing about them is drawn."""
    if not (keeps_references(module, data) and isinstance(source, Prepared)):
        return None
    encoder = module.backbone.need("image_encoder").to(device)
    width, digest = int(encoder.config.projection_dim), weights_hash(encoder)
    embed = partial(_embeds, encoder)
    return embed_all(source, cast(Background, data.background), embed, width, digest, device)


def keeps_references(module: DenoisingTraining, data: DataSettings) -> bool:
    """Whether references are encoded once and for all."""
    rests = module.REFERENCES and module.encoder_rests and data.cache_latents
    return rests and not (data.background in DRAWN or data.augment.changes)


def embedded_texts(
    module: DenoisingTraining, source: Source, data: DataSettings, device: torch.device
) -> EmbeddedTexts | None:
    """Every caption's embedding, where that is asked for."""
    if not data.cache_text:
        return None
    assert isinstance(source, Prepared), "data.cache_text goes with data.cache_latents"
    b, null_L = module.backbone, module.noise.null_ids_L.numpy()
    second = b.text_encoder_2
    encoders = [encoder.to(device) for encoder in (b.need("text_encoder"), second) if encoder is not None]
    digests = [weights_hash(encoder) for encoder in encoders]
    # What a pair makes has one row more, and of the empty caption perhaps nothing.
    digests += [] if second is None else [str(b.need("tokenizer_2").pad_token_id), str(b.zero_empty_prompt)]
    shape_LD = len(null_L) + (second is not None), b.text_width
    return embed_texts(source, null_L, partial(encode_text, b.text), shape_LD, " ".join(digests), device)


def _embeds(encoder: Any, pixels_S3RR: torch.Tensor) -> torch.Tensor:
    return embed_references(encoder, pixels_S3RR[:, None])[:, 0]


def batch_settings(settings: FitSettings, backbone: Backbone, references: bool) -> BatchSettings:
    """How rows become the batches of this training."""
    data = settings.data
    return BatchSettings(
        seed=settings.seed,
        batch_size=settings.batch_size,
        max_subjects=data.max_subjects if references else 0,
        reference_size=backbone.reference_size if references else None,
        background=data.background,  # type: ignore[arg-type]
        reference=data.reference,  # type: ignore[arg-type]
        own_share=data.own_share,
        augment=data.augment,
        skip_corrupt=data.skip_corrupt,
    )
