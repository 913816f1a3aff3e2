"""What an evaluation is told, read once from the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdlab.benchmarks.choice import BenchmarkSettings
from fdlab.config.instantiate import KEY, class_of
from fdlab.config.provenance import config_sha256
from fdlab.diffusion import guiders
from fdlab.errors import UserError, unknown
from fdlab.exchange.unpacking import read_backbone
from fdlab.measure.choose import ExtractorSettings
from fdlab.metrics.registry import METRICS
from fdlab.models.finetuned import BackboneSettings
from fdlab.transforms.references import Background


@dataclass(frozen=True)
class EvaluationSettings:
    """The configuration as far as an evaluation is concerned, and the whole of it as text."""

    benchmark: BenchmarkSettings
    extractors: ExtractorSettings
    sampler: Mapping[str, Any]
    cache: Path
    accelerator: str
    seed: int | None
    images: str | None
    """Folder of pictures that another program drew, in place of a sampler's."""
    label: str | None
    experiment: str
    config: str
    config_sha256: str

    @classmethod
    def read(cls, cfg: Any) -> EvaluationSettings:
        """From a composed configuration. Raises: UserError."""
        from omegaconf import OmegaConf

        resolved: Any = OmegaConf.to_container(cfg, resolve=True)
        return cls(
            benchmark=BenchmarkSettings.read(cfg.benchmark),
            extractors=ExtractorSettings.read(cfg.get("evaluation")),
            sampler=resolved.get("sampler") or {},
            cache=Path(cfg.paths.cache).expanduser(),
            accelerator=str(cfg.trainer.accelerator),
            seed=cfg.get("seed"),
            images=cfg.get("images"),
            label=cfg.get("label"),
            experiment=str(cfg.get("experiment", "evaluation")),
            config=OmegaConf.to_yaml(cfg, resolve=True),
            config_sha256=config_sha256(resolved),
        )


@dataclass(frozen=True)
class MethodSettings:
    """The method that a configuration describes, and what a training does to it."""

    backbone: BackboneSettings
    weights: Mapping[str, str]
    """`tdm` and `sdm`: shipped, base, or a folder."""
    sampler: Mapping[str, Any]
    background: Background
    max_subjects: int
    init: str
    model: Mapping[str, Any]
    """conf/model: what a training would build."""
    baselines: bool
    """Whether it is compared with others."""

    @classmethod
    def read(cls, cfg: Any) -> MethodSettings:
        """From a composed configuration."""
        from omegaconf import OmegaConf

        resolved: Any = OmegaConf.to_container(cfg, resolve=True)
        return cls(
            backbone=read_backbone(resolved["backbone"], resolved["paths"]["cache"]),
            weights={kind: str(resolved[kind]) for kind in ("tdm", "sdm")},
            sampler=resolved["sampler"],
            background=resolved["data"]["background"],
            max_subjects=int(resolved["data"]["max_subjects"]),
            init=str(resolved["init"]),
            model=resolved["model"],
            baselines=bool(resolved["benchmark"]["baselines"]),
        )

    @property
    def needs(self) -> tuple[str, ...]:
        """Which of the models "tdm" and "sdm" the sampler calls."""
        return guiders.needs(self.sampler["guider"])

    @property
    def trained(self) -> str:
        """Which model a training makes of it: "sdm" or "tdm"."""
        return str(class_of(str(self.model[KEY])).KIND)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class ValidationSettings:
    """The configuration's `validation`: the evaluation while training."""

    every: int
    folder: str | None
    max_subjects: int
    max_prompts: int
    num_steps: int
    monitor: str
    patience: int
    keep: str
    cache: Path
    """Where its rendered people go."""

    @classmethod
    def read(cls, cfg: Any) -> ValidationSettings:
        """From a composed configuration."""
        return cls(**cfg.validation, cache=Path(cfg.paths.cache).expanduser())

    def is_asked_for(self) -> bool:
        """Whether there is one. Raises: UserError for settings that make no sense."""
        if not self.every:
            for key, usual in (("patience", 0), ("keep", "last")):
                if getattr(self, key) != usual:
                    raise UserError(
                        f"validation.{key}={getattr(self, key)} needs evaluations while training; give their "
                        "distance in steps, as in validation.every=100."
                    )
        elif self.monitor not in ("auto", *METRICS):
            raise unknown("validation.monitor", self.monitor, ("auto", *METRICS))
        return bool(self.every)

    @property
    def benchmark(self) -> BenchmarkSettings:
        """What it draws."""
        return BenchmarkSettings.validation(self.cache, self.folder, self.max_subjects, self.max_prompts)
