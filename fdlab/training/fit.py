"""Fine-tune what a configuration asks for, into its run directory."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fdlab.config import directory
from fdlab.config.instantiate import class_of, instantiate
from fdlab.data.batches import BatchSettings
from fdlab.data.check import check_complete, is_rendered
from fdlab.data.datamodule import StatelessData
from fdlab.data.entry import Live, Shape, Source
from fdlab.data.layout import read_ids
from fdlab.data.prepare import prepare
from fdlab.data.rendered import ensure_people, mend
from fdlab.data.sample import CorruptFile
from fdlab.diffusion.settings import SamplerSettings
from fdlab.errors import UserError
from fdlab.files import whole_folder, write_json
from fdlab.models.backbone import Backbone
from fdlab.models.finetuned import FACTS
from fdlab.training import checkpoints, samples
from fdlab.training.callbacks.compiled import CheckCompiled
from fdlab.training.callbacks.grids import DrawGrids
from fdlab.training.continuing import find_checkpoint, read, resume_from
from fdlab.training.denoising import DenoisingTraining
from fdlab.training.initial import Start, load_start
from fdlab.training.loggers import make_loggers
from fdlab.training.loop import LoopSettings, run
from fdlab.training.precision import choose_device

GRID_ROWS = 4


@dataclass(frozen=True)
class FitResult:
    """What a training left behind."""

    run_dir: Path
    model: Path
    """Fine-tuned parts in diffusers' layout, averaged weights, and training.json."""
    steps: int
    """Optimiser steps of this run."""
    total_steps: int
    """The same with those of the weights it started from."""
    seconds: float
    """Spent training by this process (0 where all was done before)."""


def fit(
    cfg: Any,
    grid: samples.Grid | None = None,
    watchers: Sequence[Any] = (),
    stop_at: int | None = None,
) -> FitResult:
    """Train what `cfg` describes, from the start or from where its run directory stopped.

    `grid` replaces the sample grid, which by default shows people of the training data; `watchers` are
    callbacks beside fit's own; `stop_at` is a step at which an earlier call stopped for good. Raises:
    UserError for bad data, weights or checkpoints; KeyboardInterrupt after Ctrl-C or SIGTERM, with the state
    saved.
    """
    folder = directory.run_dir(cfg)
    if not (folder / "config.yaml").exists():
        directory.save(cfg, [])
    start, module = _module(cfg)
    resumed = resume_from(module, folder, str(cfg.resume))
    root, source = make_source(cfg, start.backbone, module.REFERENCES)
    data = StatelessData(
        source,
        _batch_settings(cfg, start.backbone, module.REFERENCES),
        stop=0,
        num_workers=int(cfg.trainer.num_workers),
    )
    callbacks: list[Any] = list(watchers)
    if int(cfg.trainer.sample_every) > 0:
        grid = grid or default_grid(cfg, module, source, root)
        callbacks.append(DrawGrids(folder / "samples", grid, int(cfg.trainer.sample_every)))
    if cfg.trainer.get("compile"):
        start.backbone.unet.compile()
        callbacks.append(
            CheckCompiled(start.backbone.unet, int(cfg.trainer.batch_size), int(start.backbone.max_tokens))
        )
    values = json.loads(json.dumps(_plain(cfg)))
    loggers = make_loggers(cfg.logger, folder / "wandb", str(cfg.experiment), str(cfg.name), values)
    settings = loop_settings(cfg)
    if stop_at is not None and resumed is not None and int(resumed.state["step"]) >= stop_at:
        settings = replace(settings, max_steps=stop_at)
    seconds = run(module, data, settings, folder, resumed, callbacks, loggers)
    best = folder / "checkpoints" / checkpoints.BEST
    if cfg.validation.keep == "best" and best.is_file():
        checkpoints.restore_weights(read(module, best), module)
    total = start.steps + module.step
    facts = {
        "steps": total,
        "steps_of_this_run": module.step,
        "kind": module.KIND,
        "init": start.origin,
        "pictures_a_step": _world() * int(cfg.trainer.batch_size) * int(cfg.trainer.accumulate),
        "seed": int(cfg.seed),
        "averaged": bool(module.averaging.average),
    }
    if directory.is_main_process():
        export(module, folder / "model", facts)
    return FitResult(folder, folder / "model", module.step, total, seconds)


def describe(cfg: Any) -> dict[str, str]:
    """What `fit` would do, without data: parameters, steps, batch, device, memory of weights and
    optimiser."""
    start, module = _module(cfg)
    b, trained = start.backbone, module.trainable_parameters()
    total = sum(p.numel() for network in b.networks().values() for p in network.parameters())
    learning = sum(p.numel() for p in trained.values())
    # fp32: weights; and for what learns gradient, two moments and the average.
    copies = 3 + bool(module.averaging.average)
    device = choose_device(str(cfg.trainer.accelerator))
    pictures = int(cfg.trainer.batch_size) * int(cfg.trainer.accumulate)
    resume = find_checkpoint(directory.run_dir(cfg), str(cfg.resume))
    mebibytes = 4 * (total + copies * learning) / 2**20
    return {
        "run directory": str(directory.run_dir(cfg)),
        "backbone": f"{b.name}, {b.image_size} px, latents {b.latent_shape_CHW}",
        "starts from": f"{start.origin}, {start.steps:,} steps" + (f"; resumes {resume}" if resume else ""),
        "parameters": f"{total:,}, of which {learning:,} learn",
        "steps": f"{int(cfg.trainer.max_steps):,} of {pictures} pictures a device",
        "device": str(device),
        "memory": f"{mebibytes:,.0f} MiB for weights and optimiser, without activations",
    }


def export(module: DenoisingTraining, folder: Path, facts: dict[str, Any]) -> None:
    """Write the averaged weights and what is known about them, the whole folder or nothing."""
    with whole_folder(folder) as temporary, module.averaging.swapped_in():
        module.export(temporary / "parts")
        for path in (temporary / "parts").iterdir():
            path.rename(temporary / path.name)
        (temporary / "parts").rmdir()
        write_json(temporary / FACTS, facts)


def make_source(cfg: Any, backbone: Backbone, references: bool) -> tuple[Path, Source]:
    """The data folder (rendered if it has to be) and its rows, encoded once or read anew."""
    data = cfg.data
    shape = Shape(
        image_size=int(backbone.image_size),
        latent_CHW=backbone.latent_shape_CHW,
        reference_size=backbone.reference_size if references else None,
        max_subjects=int(data.max_subjects) if references else 0,
    )
    if int(data.size) != shape.image_size:
        raise UserError(f"data.size={data.size}: the backbone works at {shape.image_size} pixels.")
    if data.kind == "people":
        root = ensure_people(
            Path(data.root).expanduser(), str(data.mix), int(data.num), int(data.seed), int(data.size),
            workers=int(data.render_workers),
        )  # fmt: skip
    else:
        root = Path(data.root).expanduser()
    split = str(data.get("split", "train"))
    labels = list(data.labels) if data.get("labels") is not None else None
    mirror, skip = bool(data.get("mirror", False)), bool(data.skip_corrupt)
    if data.cache_latents:
        device = choose_device(str(cfg.trainer.accelerator), _local_rank())
        cache = Path(cfg.paths.cache).expanduser()
        make = partial(
            prepare, root, cache, backbone.vae, backbone.tokenizer, shape, split, mirror, skip, device,
            labels=labels,
        )  # fmt: skip
        try:
            return root, make()
        except CorruptFile:
            if data.kind != "people" or not mend(root):
                raise
            return root, make()
    check_complete(root)
    views = 2 if mirror else 1
    ids = read_ids(root, split)
    return root, Live(root, ids, backbone.tokenizer, shape, views, is_rendered(root), labels)


def default_grid(cfg: Any, module: DenoisingTraining, source: Source, root: Path) -> samples.Grid:
    """A grid of people of the training data; a TDM sees their captions only."""
    rows: list[list[samples.Case]] = []
    if module.REFERENCES:
        rows = samples.cases_from_data(source, root, GRID_ROWS, int(cfg.seed), cfg.data.get("labels"))
    else:
        rows = samples.captions_from_data(source, root, GRID_ROWS)
    return samples.Grid(
        rows, SamplerSettings.from_mapping(cfg.sampler).with_guider(module.KIND), seed=int(cfg.seed)
    )


def loop_settings(cfg: Any) -> LoopSettings:
    """conf/trainer as the loop takes it."""
    t = cfg.trainer
    return LoopSettings(
        max_steps=int(t.max_steps),
        accumulate=int(t.accumulate),
        precision=str(t.precision),
        accelerator=str(t.accelerator),
        devices=t.devices,
        strategy=str(t.strategy),
        log_every=int(t.log_every),
        checkpoint_every=int(t.checkpoint_every),
        keep_checkpoints=int(t.keep_checkpoints),
    )


def _module(cfg: Any) -> tuple[Start, DenoisingTraining]:
    kind = class_of(str(cfg.model._target_))
    if not issubclass(kind, DenoisingTraining):
        raise UserError(f"model._target_={cfg.model._target_}: not a training of a denoiser.")
    start = load_start(cfg, kind.KIND, kind.REFERENCES)
    return start, instantiate(cfg.model, backbone=start.backbone, seed=int(cfg.seed))


def _batch_settings(cfg: Any, backbone: Backbone, references: bool) -> BatchSettings:
    return BatchSettings(
        seed=int(cfg.seed),
        batch_size=int(cfg.trainer.batch_size),
        max_subjects=int(cfg.data.max_subjects) if references else 0,
        reference_size=backbone.reference_size if references else None,
        background=str(cfg.data.background),  # type: ignore[arg-type]
        reference=str(cfg.data.reference),  # type: ignore[arg-type]
        skip_corrupt=bool(cfg.data.skip_corrupt),
    )


def _plain(cfg: Any) -> dict[str, Any]:
    from omegaconf import OmegaConf

    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


def _world() -> int:
    return (
        torch.distributed.get_world_size()
        if torch.distributed.is_available() and torch.distributed.is_initialized()
        else 1
    )
