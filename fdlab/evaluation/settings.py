"""What an evaluation is told, read once from the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdlab.benchmarks.choice import BenchmarkSettings
from fdlab.config.provenance import config_sha256
from fdlab.evaluation.rows import plain
from fdlab.measure.choose import ExtractorSettings


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

        return cls(
            benchmark=BenchmarkSettings.read(cfg.benchmark),
            extractors=ExtractorSettings.read(cfg.get("evaluation")),
            sampler=plain(cfg.get("sampler") or {}),
            cache=Path(cfg.paths.cache).expanduser(),
            accelerator=str(cfg.trainer.accelerator),
            seed=cfg.get("seed"),
            images=cfg.get("images"),
            label=cfg.get("label"),
            experiment=str(cfg.get("experiment", "evaluation")),
            config=OmegaConf.to_yaml(cfg, resolve=True),
            config_sha256=config_sha256(cfg),
        )
