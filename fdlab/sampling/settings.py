"""What `sample` is told, read once from the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdlab.diffusion.settings import SamplerSettings
from fdlab.errors import UserError
from fdlab.exchange.unpacking import read_backbone
from fdlab.measure.faces.photos import Head
from fdlab.models.finetuned import BackboneSettings
from fdlab.sampling.trace import check_traced
from fdlab.transforms.references import Background


@dataclass(frozen=True)
class SampleSettings:
    """conf/sample.yaml, and the models to draw with."""

    prompt: str | None
    subjects: tuple[str, ...]
    faces: tuple[int | None, ...] | None
    prompts: str | None
    """A file, in place of all three."""
    seed: int
    num_images: int
    trace: bool
    trace_steps: list[int] | None
    """In order, each once; None: some, spread out."""
    out: Path
    sampler: SamplerSettings
    backbone: BackboneSettings
    weights: Mapping[str, str]
    """`tdm` and `sdm`: shipped, base, or a folder."""
    background: Background
    max_subjects: int
    head: Head | None
    """How heads are cut out of photos; None: the square around the face, with shoulders."""

    @classmethod
    def read(cls, cfg: Any) -> SampleSettings:
        """From a composed configuration. Raises: UserError for a sampler that cannot be, or be traced."""
        sampler = SamplerSettings.from_mapping(cfg.sampler)
        sampler.check()
        steps = None if cfg.trace_steps is None else list(cfg.trace_steps)
        if cfg.trace:
            _check_trace(sampler, steps or [])
        return cls(
            prompt=cfg.prompt,
            subjects=tuple(map(str, cfg.subjects)),
            faces=None if cfg.faces is None else tuple(cfg.faces),
            prompts=cfg.prompts,
            seed=cfg.seed,
            num_images=cfg.num_images,
            trace=cfg.trace,
            trace_steps=None if steps is None else sorted(set(steps)),
            out=Path(cfg.out),
            sampler=sampler,
            backbone=read_backbone(cfg.backbone, cfg.paths.cache),
            weights={kind: str(cfg[kind]) for kind in sampler.needs},
            background=cfg.data.background,
            max_subjects=cfg.data.max_subjects,
            head=Head.of(cfg.backbone.reference_crop, cfg.backbone.reference_size, cfg.data.background),
        )


def _check_trace(sampler: SamplerSettings, steps: list[int]) -> None:
    check_traced(sampler.guider)
    for step in steps:
        if type(step) is not int or not 0 <= step < sampler.num_steps:
            last = sampler.num_steps - 1
            raise UserError(f"trace_steps has {step}; allowed: whole numbers from 0 to {last}.")
