"""What a training and all that follows it will need, looked for in its first seconds: hours of training must
not end at a misspelt sampler.

Everything is tried by the code that will use it, so that there is no second list of what may be wrong.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdlab.benchmarks import jobs
from fdlab.benchmarks.benchmark import Benchmark
from fdlab.benchmarks.choice import NONE, BenchmarkSettings
from fdlab.data.captions import parse
from fdlab.data.folder import check_complete
from fdlab.diffusion.settings import SamplerSettings
from fdlab.errors import UserError
from fdlab.evaluation import given_pictures
from fdlab.evaluation.measuring import check_references
from fdlab.evaluation.rows import check_group_size, check_weights
from fdlab.evaluation.settings import MethodSettings, ValidationSettings
from fdlab.layouts.choose import check_teaches, open_folder
from fdlab.measure import choose as loading
from fdlab.measure.choose import ExtractorSettings
from fdlab.models import finetuned
from fdlab.models.backbone import Backbone
from fdlab.pipeline.inputs import tokens
from fdlab.training import class_pictures, loggers
from fdlab.training.loggers import LoggerSettings
from fdlab.training.settings import DataSettings


@dataclass(frozen=True)
class Asked:
    """What a command asks for beside a training."""

    paths: Mapping[str, str]
    accelerator: str
    devices: str | int
    logger: LoggerSettings
    method: MethodSettings
    benchmark: BenchmarkSettings
    extractors: ExtractorSettings
    validation: ValidationSettings
    evaluates: bool
    """Whether a training ends with an evaluation."""
    images: str | None
    label: str | None
    shard: str | None

    @classmethod
    def read(cls, cfg: Any) -> Asked:
        """From a composed configuration. Raises: UserError."""
        return cls(
            paths=cfg.paths,
            accelerator=str(cfg.trainer.accelerator),
            devices=cfg.trainer.devices,
            logger=LoggerSettings.read(cfg),
            method=MethodSettings.read(cfg),
            benchmark=BenchmarkSettings.read(cfg.benchmark),
            extractors=ExtractorSettings.read(cfg.evaluation),
            validation=ValidationSettings.read(cfg),
            evaluates=bool(cfg.evaluate) and cfg.benchmark.kind != NONE,
            images=cfg.get("images"),
            label=cfg.get("label"),
            shard=cfg.get("shard"),
        )


def check(asked: Asked, data: Mapping[str, Any]) -> None:
    """Look for all that training on `data` (conf/data), grids, validation and evaluation will need; nothing
    is drawn or rendered.

    Raises: UserError for the first thing that is missing or does not fit.
    """
    method = asked.method
    check_folders(asked.paths)
    device_of(asked.accelerator, asked.devices)
    check_data(data, method.backbone.image_size, method.trained == "sdm")
    if method.model.get("prior_weight"):
        class_pictures.check(DataSettings.read(data, asked.paths["cache"]), method.backbone)
    loggers.check(asked.logger)
    backbone = finetuned.load(method.backbone, None, ("tokenizer", "scheduler"))
    check_sampler(method.sampler, backbone)
    benchmarks: list[Benchmark] = []
    if asked.validation.is_asked_for():
        benchmarks.append(asked.validation.benchmark.outline())
        sampler = {**method.sampler, "num_steps": asked.validation.num_steps}
        check_sampler(sampler, backbone)
        check_benchmark(method, benchmarks[-1], backbone.tokenizer)
    if asked.evaluates:
        benchmarks.append(asked.benchmark.outline())
        check_weights(method)
        check_benchmark(method, benchmarks[-1], backbone.tokenizer)
        check_loading(method, [kind for kind in method.needs if kind != method.trained])
    if asked.evaluates or asked.validation.every:
        extractors = loading.load_extractors(asked.extractors)
        for benchmark in benchmarks:
            check_references(benchmark, extractors)


def check_evaluation(asked: Asked) -> Benchmark:
    """The same for an evaluation of models that exist, or of given pictures; returns its benchmark, whose
    pictures may not be rendered yet. Raises: UserError."""
    method = asked.method
    check_folders(asked.paths)
    device_of(asked.accelerator)
    loggers.check(asked.logger)
    benchmark = asked.benchmark.outline()
    jobs.share((), asked.shard)
    if asked.label is not None and asked.images is None:
        raise UserError(f"label={asked.label}: it names pictures that are given; give images=FOLDER with it.")
    loading.check(asked.extractors)
    if asked.images is None:
        backbone = finetuned.load(method.backbone, None, ("tokenizer", "scheduler"))
        check_sampler(method.sampler, backbone)
        check_benchmark(method, benchmark, backbone.tokenizer)
        finetuned.need_all(method.backbone, {kind: method.weights[kind] for kind in method.needs})
        # Of what the method is compared with, all is drawn before its models are loaded.
        check_loading(method, method.needs if method.baselines else ())
    else:
        given_pictures.row(asked.images, None, benchmark)
    return benchmark


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


def check_data(data: Mapping[str, Any], image_size: int | None, subjects: bool) -> None:
    """That the data folder is there and complete, where it is not rendered, and has masks where `subjects`
    are learnt. Raises: UserError."""
    if data["size"] != image_size:
        raise UserError(f"data.size={data['size']}: the backbone works at {image_size} pixels.")
    if data["kind"] != "people":
        folder = open_folder(data["root"], data["kind"], data.get("caption"))
        check_complete(folder)
        check_teaches(folder, subjects)
        folder.ids(str(data.get("split", "train")))


def check_sampler(sampler: Mapping[str, Any], backbone: Backbone) -> None:
    """Try a sampler's settings on the backbone's scheduler. Raises: UserError."""
    SamplerSettings.from_mapping(sampler).check(backbone.need("scheduler"))


def check_benchmark(method: MethodSettings, benchmark: Benchmark, tokenizer: Any) -> None:
    """That the backbone can draw a benchmark: its size, its groups, its prompts. Raises: UserError."""
    backbone = method.backbone
    if benchmark.size != backbone.image_size:
        raise UserError(
            f"benchmark '{benchmark.name}' has pictures of {benchmark.size} pixels, backbone "
            f"'{backbone.name}' draws {backbone.image_size}; make it at that size (data convert ... --size "
            f"{backbone.image_size}), choose another benchmark=, or benchmark={NONE} to evaluate nothing."
        )
    check_group_size(method, benchmark)
    texts = {prompt.of(group) for group in benchmark.drawn for prompt in benchmark.prompts}
    if "sdm" in method.needs:
        tokens(tokenizer, sorted(texts))
    else:
        tokens(tokenizer, sorted({parse(text)[0] for text in texts}))


def check_loading(method: MethodSettings, kinds: Iterable[str]) -> None:
    """Load models that are not trained here, to let go of them again. Raises: UserError."""
    for kind in kinds:
        found = finetuned.need(method.backbone, kind, method.weights[kind])
        finetuned.load(method.backbone, found, finetuned.PARTS[kind])
