"""Everything a training takes from the configuration, read once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fdlab.config.instantiate import KEY, class_of
from fdlab.config.naming import run_dir
from fdlab.diffusion.settings import SamplerSettings
from fdlab.engine import optimizers
from fdlab.engine.loop import LoopSettings
from fdlab.engine.strategies import FSDP, ZERO
from fdlab.errors import UserError, unknown
from fdlab.exchange.unpacking import read_backbone
from fdlab.marker import MARKER
from fdlab.models.finetuned import BackboneSettings
from fdlab.training.denoising import DenoisingTraining
from fdlab.training.loggers import LoggerSettings
from fdlab.transforms.augment import Augment
from fdlab.transforms.framing import Framing

KINDS = ("people", "fastcomposer", "webdataset", "plain", "folder")
"""Values of data.kind: rendered when needed, or a folder that is there, of one layout or of any."""


NOUN = "{noun}"
"""Stands for a word for a person in a prompt."""


@dataclass(frozen=True)
class PriorSettings:
    """conf/data's `prior`: pictures of anybody, beside those of the training."""

    root: Path | None = None
    """None: below the cache."""
    num: int = 200
    prompt: str = f"a photo of a {NOUN}"
    num_steps: int = 50

    @property
    def caption(self) -> str | None:
        """Of pictures in `root` that have none, where the prompt says who they show."""
        return None if NOUN in self.prompt else self.prompt

    @classmethod
    def read(cls, node: Mapping[str, Any]) -> PriorSettings:
        """Take the keys. Raises: UserError for a prompt that shows nobody, or a subject, which class pictures
        do not have."""
        if not node["prompt"].strip() or set("{}") & set(str(node["prompt"]).replace(NOUN, "")):
            raise UserError(
                f"data.prior.prompt='{node['prompt']}': say what anybody's picture shows, as 'a photo of a"
                f" {NOUN}'; in braces there is {NOUN} alone."
            )
        if MARKER in node["prompt"]:
            raise UserError(
                f"data.prior.prompt={node['prompt']}: pictures of anybody have no marker {MARKER}."
            )
        root = None if node["root"] is None else Path(node["root"]).expanduser()
        return cls(root, int(node["num"]), str(node["prompt"]), int(node["num_steps"]))


@dataclass(frozen=True)
class DataSettings:
    """conf/data, and where its caches go."""

    kind: str
    root: Path
    cache: Path
    size: int
    split: str
    max_subjects: int
    reference: str
    background: str
    mirror: bool
    cache_latents: bool
    skip_corrupt: bool
    own_share: float = 0.5
    """Of a mixed reference."""
    cache_text: bool = False
    shapes: str = "square"
    longest: float = 2.0
    """Of buckets, the largest ratio of the sides."""
    framing: Framing = field(default_factory=Framing)
    augment: Augment = field(default_factory=Augment)
    """Of references."""
    prior: PriorSettings = field(default_factory=PriorSettings)
    labels: list[str] | None = None
    """What counts as a subject; None: everything."""
    caption: str | None = None
    """Of a plain folder's pictures that have none; None: those are refused."""
    mix: str = ""
    num: int = 0
    seed: int = 0
    render_workers: int = 0

    @classmethod
    def read(cls, data: Mapping[str, Any], cache: str) -> DataSettings:
        """Take the group's keys. Raises: UserError for a kind that is unknown."""
        if data["kind"] not in KINDS:
            raise unknown("data.kind", str(data["kind"]), KINDS)
        caption = data.get("caption")
        if caption is not None and (not caption.strip() or MARKER in caption):
            raise UserError(f"data.caption='{caption}': say what pictures show, without a marker {MARKER}.")
        rendered: dict[str, Any] = {}
        if data["kind"] == "people":
            if "mix" not in data:
                raise UserError("data.kind=people: a folder is not rendered; take data=people_portraits.")
            rendered = {"mix": str(data["mix"])}
            rendered |= {key: int(data[key]) for key in ("num", "seed", "render_workers")}
        return cls(
            kind=str(data["kind"]),
            root=Path(data["root"]).expanduser(),
            cache=Path(cache).expanduser(),
            size=int(data["size"]),
            split=str(data.get("split", "train")),
            max_subjects=int(data["max_subjects"]),
            reference=str(data["reference"]),
            background=str(data["background"]),
            mirror=bool(data.get("mirror", False)),
            cache_latents=bool(data["cache_latents"]),
            skip_corrupt=bool(data["skip_corrupt"]),
            own_share=float(data["own_share"]),
            cache_text=bool(data["cache_text"]),
            shapes=str(data["shapes"]),
            longest=float(data["longest"]),
            framing=Framing(data["crop"], float(data["least"])),
            augment=Augment(**{name: float(value) for name, value in data["augment"].items()}),
            prior=PriorSettings.read(data["prior"]),
            labels=None if data.get("labels") is None else [str(label) for label in data["labels"]],
            caption=caption,
            **rendered,
        )


def check_kept(data: DataSettings) -> None:
    """Whether what is kept of pictures and captions goes together. Raises: UserError."""
    if data.cache_latents and data.framing.crop == "random":
        raise UserError(
            "data.crop=random does not go with data.cache_latents=true: what is drawn anew each time cannot "
            "be encoded once; set one of them otherwise."
        )
    if data.cache_text and not data.cache_latents:
        raise UserError("data.cache_text=true needs data.cache_latents=true, which knows all captions.")


def check_text(model: Mapping[str, Any], cache_text: bool) -> None:
    """Whether what is asked of the text encoder goes together. Raises: UserError."""
    lr = model.get("text_encoder_lr")
    if not model.get("train_text_encoder"):
        if lr is not None:
            raise UserError(
                f"model.text_encoder_lr={lr:g}, but the text encoder rests; give"
                " model.train_text_encoder=true with it."
            )
        return
    if cache_text:
        raise UserError(
            "model.train_text_encoder=true does not go with data.cache_text=true: what it makes of a caption"
            " changes as it learns; set one of them to false."
        )
    if lr is not None and model["optimizer"] == "prodigy":
        raise UserError(
            f"model.text_encoder_lr={lr:g} does not go with model.optimizer=prodigy, which finds one rate for"
            " all; leave it out."
        )


@dataclass(frozen=True)
class FitSettings:
    """What `fit` is asked for; `values` is the whole configuration, for a logger to show."""

    folder: Path
    resume: str
    seed: int
    backbone: BackboneSettings
    init: str
    kind: type[DenoisingTraining]
    model: Mapping[str, Any]
    """conf/model: the kind's own options."""
    data: DataSettings
    loop: LoopSettings
    logger: LoggerSettings
    sampler: SamplerSettings
    batch_size: int
    num_workers: int
    sample_every: int
    compile: str
    keep_best: bool
    values: dict[str, Any]

    @property
    def prior_sampler(self) -> SamplerSettings:
        """What class pictures are drawn with: the backbone's own way, whatever is sampled with afterwards."""
        usual = self.values["backbone"]
        shared = {key: usual[key] for key in ("guidance_scale", "final_sigma", "scheduler") if key in usual}
        return SamplerSettings(guider="tdm", num_steps=self.data.prior.num_steps, **shared)

    @classmethod
    def read(cls, cfg: Any) -> FitSettings:
        """Read a composed configuration. Raises: UserError for what no training can be made of."""
        from omegaconf import OmegaConf

        resolved: Any = OmegaConf.to_container(cfg, resolve=True)
        trainer, kind = resolved["trainer"], class_of(str(resolved["model"][KEY]))
        if not issubclass(kind, DenoisingTraining):
            raise UserError(f"model.{KEY}={resolved['model'][KEY]}: not a training of a denoiser.")
        optimizer = resolved["model"]["optimizer"]
        allowed = {FSDP: ("adamw", "muon"), **dict.fromkeys(ZERO, ("adamw",))}.get(trainer["strategy"])
        if allowed is not None and optimizer not in allowed:
            raise UserError(
                f"trainer.strategy={trainer['strategy']} does not go with model.optimizer={optimizer}: it"
                f" cuts weights apart; use {' or '.join(allowed)}, or trainer.strategy=ddp."
            )
        _check_memory(resolved["model"], trainer["strategy"])
        optimizers.check(optimizer, float(resolved["model"]["lr"]))
        data = DataSettings.read(resolved["data"], resolved["paths"]["cache"])
        check_kept(data)
        check_text(resolved["model"], data.cache_text)
        compiled = f"trainer.compile={trainer['compile']}"
        if trainer["compile"] != "none" and trainer["strategy"] == FSDP:
            raise UserError(f"{compiled} does not go with trainer.strategy={FSDP}; leave one out.")
        if trainer["compile"] != "none" and resolved["data"]["shapes"] != "square":
            raise UserError(f"{compiled} does not go with data.shapes=buckets; leave one out.")
        return cls(
            folder=run_dir(resolved),
            resume=str(resolved["resume"]),
            seed=int(resolved["seed"]),
            backbone=read_backbone(resolved["backbone"], resolved["paths"]["cache"]),
            init=str(resolved["init"]),
            kind=kind,
            model=resolved["model"],
            data=data,
            loop=LoopSettings.read(trainer, bool(resolved["profile"])),
            logger=LoggerSettings.read(resolved),
            sampler=SamplerSettings.from_mapping(resolved["sampler"]),
            batch_size=int(trainer["batch_size"]),
            num_workers=int(trainer["num_workers"]),
            sample_every=int(trainer["sample_every"]),
            compile=str(trainer["compile"]),
            keep_best=resolved["validation"]["keep"] == "best",
            values=json.loads(json.dumps(resolved)),
        )


def _check_memory(model: Mapping[str, Any], strategy: str) -> None:
    """Refuse what does not go with sharing weights out. Raises: UserError."""
    asked = {"ema_device": ("cpu", "same"), "frozen": ("half", "auto")}
    for key, (value, other) in asked.items():
        if strategy == FSDP and model[key] == value:
            raise UserError(
                f"model.{key}={value} does not go with trainer.strategy={FSDP}, which shares weights and"
                f" averages out in one precision; use model.{key}={other}."
            )
