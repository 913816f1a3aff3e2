"""Everything a training takes from the configuration, read once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdlab.config import directory
from fdlab.config.instantiate import KEY, class_of, instantiate
from fdlab.diffusion.settings import SamplerSettings
from fdlab.errors import UserError, unknown
from fdlab.training.denoising import DenoisingTraining
from fdlab.training.initial import Start, load_start
from fdlab.training.loggers import LoggerSettings
from fdlab.training.loop import LoopSettings

KINDS = ("people", "fastcomposer")
"""Values of data.kind: rendered when needed, or a folder that is there."""


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
    labels: list[str] | None = None
    """What counts as a subject; None: everything."""
    mix: str = ""
    num: int = 0
    seed: int = 0
    render_workers: int = 0

    @classmethod
    def read(cls, data: Mapping[str, Any], cache: str) -> DataSettings:
        """Take the group's keys. Raises: UserError for a kind that is unknown."""
        if data["kind"] not in KINDS:
            raise unknown("data.kind", str(data["kind"]), KINDS)
        rendered: dict[str, Any] = {}
        if data["kind"] == "people":
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
            labels=None if data.get("labels") is None else [str(label) for label in data["labels"]],
            **rendered,
        )


@dataclass(frozen=True)
class FitSettings:
    """What `fit` is asked for; `values` is the whole configuration, for a logger to show."""

    folder: Path
    resume: str
    seed: int
    kind: type[DenoisingTraining]
    data: DataSettings
    loop: LoopSettings
    logger: LoggerSettings
    sampler: SamplerSettings
    batch_size: int
    num_workers: int
    sample_every: int
    compile: bool
    keep_best: bool
    values: dict[str, Any]

    @classmethod
    def read(cls, cfg: Any) -> FitSettings:
        """Read a composed configuration. Raises: UserError for what no training can be made of."""
        from omegaconf import OmegaConf

        plain: Any = OmegaConf.to_container(cfg, resolve=True)
        trainer, kind = plain["trainer"], class_of(str(plain["model"][KEY]))
        if not issubclass(kind, DenoisingTraining):
            raise UserError(f"model.{KEY}={plain['model'][KEY]}: not a training of a denoiser.")
        return cls(
            folder=directory.run_dir(cfg),
            resume=str(plain["resume"]),
            seed=int(plain["seed"]),
            kind=kind,
            data=DataSettings.read(plain["data"], plain["paths"]["cache"]),
            loop=LoopSettings.read(trainer),
            logger=LoggerSettings.read(plain),
            sampler=SamplerSettings.from_mapping(plain["sampler"]),
            batch_size=int(trainer["batch_size"]),
            num_workers=int(trainer["num_workers"]),
            sample_every=int(trainer["sample_every"]),
            compile=bool(trainer.get("compile")),
            keep_best=plain["validation"]["keep"] == "best",
            values=json.loads(json.dumps(plain)),
        )


def make_module(cfg: Any, settings: FitSettings) -> tuple[Start, DenoisingTraining]:
    """Load the weights that training starts from, and what trains them."""
    start = load_start(cfg, settings.kind.KIND, settings.kind.REFERENCES)
    module: DenoisingTraining = instantiate(cfg.model, backbone=start.backbone, seed=settings.seed)
    return start, module
