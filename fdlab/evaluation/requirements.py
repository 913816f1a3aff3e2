"""What a training and all that follows it will need, looked for in its first seconds: hours of training must
not end at a misspelt sampler.

Everything is tried by the code that will use it, so that there is no second list of what may be wrong.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fdlab.benchmarks.benchmark import Benchmark
from fdlab.benchmarks.choice import NONE, BenchmarkSettings
from fdlab.data.captions import parse
from fdlab.data.check import check_complete
from fdlab.data.layout import read_ids
from fdlab.diffusion import guiders
from fdlab.diffusion.settings import SamplerSettings
from fdlab.errors import UserError, unknown
from fdlab.evaluation.rows import check_group_size, check_weights, plain, trained_kind
from fdlab.measure import choose as loading
from fdlab.measure.choose import ExtractorSettings
from fdlab.metrics.registry import METRICS
from fdlab.models import finetuned
from fdlab.models.backbone import load_backbone
from fdlab.models.finetuned import BackboneSettings
from fdlab.pipeline.inputs import tokens
from fdlab.training import loggers


def check(cfg: Any) -> None:
    """Look for all that training, grids, validation and evaluation will need; nothing is drawn or rendered.

    Raises: UserError for the first thing that is missing or does not fit.
    """
    check_folders(cfg.paths)
    device_of(cfg.trainer.accelerator, cfg.trainer.devices)
    check_data(cfg.data, cfg.backbone.image_size)
    loggers.check(cfg.logger)
    backbone = load_backbone(cfg.backbone.path, parts=["tokenizer", "scheduler"])
    sampler = check_sampler(plain(cfg.sampler), backbone.need("scheduler"))
    validated = check_validation(cfg, backbone)
    if evaluates(cfg):
        check_weights(cfg)
        check_benchmark(cfg, BenchmarkSettings.read(cfg.benchmark).outline(), backbone.tokenizer)
        kinds = [kind for kind in sampler.needs if kind != trained_kind(cfg)]
        check_loading(cfg, {kind: cfg[kind] for kind in kinds})
    if evaluates(cfg) or validated:
        loading.chosen(ExtractorSettings.read(cfg.evaluation))


def check_evaluation(cfg: Any) -> Benchmark:
    """The same for an evaluation of models that exist, or of given pictures; returns its benchmark, whose
    pictures may not be rendered yet. Raises: UserError."""
    check_folders(cfg.paths)
    device_of(cfg.trainer.accelerator)
    loggers.check(cfg.logger)
    settings = BenchmarkSettings.read(cfg.benchmark)
    benchmark = settings.outline()
    loading.check(ExtractorSettings.read(cfg.evaluation))
    if cfg.images is None:
        backbone = load_backbone(cfg.backbone.path, parts=["tokenizer", "scheduler"])
        sampler = check_sampler(plain(cfg.sampler), backbone.need("scheduler"))
        check_benchmark(cfg, benchmark, backbone.tokenizer)
        # Of what the method is compared with, all is drawn before its models are loaded.
        check_loading(cfg, {kind: cfg[kind] for kind in sampler.needs} if settings.baselines else {})
    return benchmark


def evaluates(cfg: Any) -> bool:
    """Whether a training ends with an evaluation."""
    return bool(cfg.evaluate) and cfg.benchmark.kind != NONE


def check_folders(paths: Mapping[str, str]) -> None:
    """That folders can be made and written where runs and caches go; a cache that is there may be complete,
    and is then only read. Raises: UserError."""
    for key in paths:
        folder = Path(paths[key]).absolute()
        above = next(parent for parent in (folder, *folder.parents) if parent.exists())
        if not above.is_dir():
            raise UserError(f"paths.{key}={paths[key]}: '{above}' is a file; give a folder.")
        may_be_complete = key == "cache" and above == folder
        if not may_be_complete and not os.access(above, os.W_OK | os.X_OK):
            raise UserError(f"paths.{key}={paths[key]}: '{above}' cannot be written; give another folder.")


def device_of(accelerator: str, devices: str | int = "auto") -> str:
    """The device to evaluate on: a GPU if there is one, unless the CPU is asked for. Raises: UserError where
    more is asked for than is here."""
    import torch

    num = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if accelerator == "gpu" and not num:
        raise UserError("trainer.accelerator=gpu, but no GPU is here; allowed: auto, cpu.")
    if accelerator != "cpu" and num and str(devices).isdecimal() and int(devices) > num:
        raise UserError(f"trainer.devices={devices}, but {num} GPUs are here; allowed: auto, 1 to {num}.")
    return "cuda" if accelerator != "cpu" and num else "cpu"


def check_data(data: Any, image_size: int) -> None:
    """That the data folder is there and complete, where it is not rendered. Raises: UserError."""
    if int(data.size) != int(image_size):
        raise UserError(f"data.size={data.size}: the backbone works at {image_size} pixels.")
    if data.kind != "people":
        root = Path(data.root).expanduser()
        check_complete(root)
        read_ids(root, str(data.get("split", "train")))


def check_sampler(sampler: Mapping[str, Any], scheduler: Mapping[str, Any]) -> SamplerSettings:
    """A sampler's settings, tried on the backbone's `scheduler` configuration. Raises: UserError."""
    settings = SamplerSettings.from_mapping(sampler)
    settings.check(scheduler)
    return settings


def check_benchmark(cfg: Any, benchmark: Benchmark, tokenizer: Any) -> None:
    """That the backbone can draw a benchmark: its size, its groups, its prompts. Raises: UserError."""
    if benchmark.size != cfg.backbone.image_size:
        raise UserError(
            f"benchmark '{benchmark.name}' has pictures of {benchmark.size} pixels, backbone "
            f"'{cfg.backbone.name}' draws {cfg.backbone.image_size}; choose another benchmark=, or "
            f"benchmark={NONE} to evaluate nothing."
        )
    check_group_size(cfg, benchmark.subjects_per_picture)
    texts = {prompt.of(group) for group in benchmark.drawn for prompt in benchmark.prompts}
    if "sdm" in guiders.needs(cfg.sampler.guider):
        tokens(tokenizer, sorted(texts))
    else:
        tokens(tokenizer, sorted({parse(text)[0] for text in texts}))


def check_loading(cfg: Any, chosen: Mapping[str, str]) -> None:
    """Load models that are not trained here, to let go of them again. Raises: UserError."""
    backbone = BackboneSettings.from_mapping(cfg.backbone)
    for kind, choice in chosen.items():
        finetuned.load(backbone, finetuned.need(backbone, kind, choice), finetuned.PARTS[kind])


def check_validation(cfg: Any, backbone: Any) -> bool:
    """What evaluating while training needs; whether it is asked for at all. Raises: UserError."""
    settings = cfg.validation
    if not settings.every:
        for key, usual in (("patience", 0), ("keep", "last")):
            if settings[key] != usual:
                raise UserError(
                    f"validation.{key}={settings[key]} needs evaluations while training; give their distance "
                    "in steps, as in validation.every=100."
                )
        return False
    if settings.monitor not in ("auto", *METRICS):
        raise unknown("validation.monitor", settings.monitor, ("auto", *METRICS))
    sampler = {**plain(cfg.sampler), "num_steps": settings.num_steps}
    check_sampler(sampler, backbone.need("scheduler"))
    asked = BenchmarkSettings.validation(
        Path(cfg.paths.cache), settings.folder, settings.max_subjects, settings.max_prompts
    )
    check_benchmark(cfg, asked.outline(), backbone.tokenizer)
    return True
