"""Fine-tune what a configuration asks for, into its run directory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fdlab.config import directory
from fdlab.config.launch import local_rank
from fdlab.data import whom
from fdlab.data.datamodule import StatelessData
from fdlab.data.entry import Source
from fdlab.data.folder import Folder
from fdlab.engine import checkpoints
from fdlab.engine.continuing import read, resume_from
from fdlab.engine.loop import check_device, run
from fdlab.engine.ranks import Ranks
from fdlab.files import whole_folder, write_json
from fdlab.models import finetuned
from fdlab.models.compiling import compile_denoiser
from fdlab.models.finetuned import FACTS
from fdlab.training import class_pictures, samples
from fdlab.training.callbacks.compiled import CheckCompiled
from fdlab.training.callbacks.grids import DrawGrids
from fdlab.training.denoising import DenoisingTraining
from fdlab.training.economies import economies
from fdlab.training.footprint import Footprint, capacity, estimate, num_devices, shown
from fdlab.training.initial import Start, make_module
from fdlab.training.loggers import make_loggers
from fdlab.training.resting import lean_of, rounded_to
from fdlab.training.settings import FitSettings
from fdlab.training.source import batch_settings, embedded, embedded_texts, make_classes, make_source

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
    settings = FitSettings.read(cfg)
    folder, loop = settings.folder, settings.loop
    device = check_device(loop, local_rank())
    if not (folder / "config.yaml").exists():
        directory.save(cfg, [])
    loggers = make_loggers(settings.logger, folder, settings.values)
    start, module = _made(settings, device)
    resumed = resume_from(module, folder, settings.resume)
    for logger in loggers:
        if resumed is not None and hasattr(logger, "goes_on_at"):
            logger.goes_on_at(int(resumed.state["step"]))
    pictures, source = make_source(settings.data, start.backbone, module.REFERENCES, device, module.faces)
    data = StatelessData(
        source,
        batch_settings(settings, start.backbone, module.REFERENCES),
        stop=0,
        num_workers=settings.num_workers,
        embedded=embedded(module, source, settings.data, device),
        texts=embedded_texts(module, source, settings.data, device),
        classes=make_classes(module, settings, pictures, device),
    )
    callbacks: list[Any] = list(watchers)
    if settings.sample_every > 0:
        grid = grid or default_grid(settings, module, source, pictures)
        callbacks.append(DrawGrids(folder / "samples", grid, settings.sample_every))
    if settings.compile != "none":
        unet, num_tokens = start.backbone.unet, int(start.backbone.max_tokens)
        compile_denoiser(unet, settings.compile)
        callbacks.append(CheckCompiled(unet, settings.compile, settings.batch_size, num_tokens))
    if stop_at is not None and resumed is not None and int(resumed.state["step"]) >= stop_at:
        loop = replace(loop, max_steps=stop_at)
    seconds = run(module, data, loop, folder, resumed, callbacks, loggers)
    best = folder / "checkpoints" / checkpoints.BEST
    if settings.keep_best and best.is_file():
        checkpoints.restore_weights(read(module, best), module)
    total = start.steps + module.step
    facts = {
        "steps": total,
        "steps_of_this_run": module.step,
        "kind": module.KIND,
        "init": start.origin,
        "pictures_a_step": _pictures_a_step(settings, folder, device, seconds > 0),
        "lr": module.optimization.lr,
        "seed": settings.seed,
        "averaged": bool(module.averaging.average),
        "people": whom.joined(start.people, [whom.shown_by(pictures, settings.data.split)]),
    }
    facts |= _more_facts(start, module)
    if directory.is_main_process():
        export(module, folder / "model", facts)
    return FitResult(folder, folder / "model", module.step, total, seconds)


def _pictures_a_step(settings: FitSettings, folder: Path, device: torch.device, trained: bool) -> int:
    """Of all processes; of a training that was over already, as its model says."""
    told = finetuned.facts(folder / "model").get("pictures_a_step")
    if told and not trained:
        return int(told)
    processes = Ranks.here().world if trained else num_devices(settings, device.type)
    return processes * settings.batch_size * settings.loop.accumulate


def _more_facts(start: Start, module: DenoisingTraining) -> dict[str, Any]:
    """What only some weights have to tell."""
    facts: dict[str, Any] = {}
    if module.lora.rank:
        lora = {"rank": module.lora.rank, "scale": module.lora.scale}
        facts["lora"] = {**lora, "targets": list(module.lora.targets)}
    if module.text.learn:
        facts["text_encoder_lr"] = module.text.lr or module.optimization.lr
    if module.prior_weight:
        facts["prior_weight"] = module.prior_weight
    if taught_by := sorted({*module.taught_by, *start.taught_by}):
        facts["taught_by"] = taught_by
    return facts


@dataclass(frozen=True)
class Description:
    """What `fit` would do."""

    texts: dict[str, str]
    memory: Footprint
    room: int
    """Bytes that the device has; 0 where it does not say."""
    economies: list[tuple[str, Footprint]]
    """Settings that would make the training fit, added up, and what then is held; empty where it does."""

    def lines(self) -> dict[str, str]:
        """For a person."""
        peak, has = shown(self.memory.peak), f" of {shown(self.room)}" if self.room else ""
        found = {**self.texts, "memory": f"{peak}{has} at most, estimated"}
        return found | {f"  {name}": text for name, text in self.memory.rows().items()}

    def warning(self) -> str | None:
        """One line where it does not fit."""
        if not self.room or self.memory.peak <= self.room:
            return None
        has = f"the training takes about {shown(self.memory.peak)}, the device has {shown(self.room)}"
        steps = [f"{words} ({shown(left.peak)})" for words, left in self.economies]
        if not steps or self.economies[-1][1].peak > self.room:
            steps.append("model.lora_rank=16, or a smaller backbone")
        return f"warning: {has}. One after the other these make it less: {', then '.join(steps)}."

    def to_json(self) -> dict[str, Any]:
        """For a program."""
        saved = [{"overrides": words, "peak": left.peak} for words, left in self.economies]
        texts = {name.replace(" ", "_"): text for name, text in self.texts.items()}
        return {**texts, "memory": {**self.memory.to_json(), "device": self.room, "economies": saved}}


def describe(settings: FitSettings) -> Description:
    """What `fit` would do, without data: parameters, steps, batch, device, memory."""
    device = check_device(settings.loop)
    start, module = _made(settings, device)
    b, trained = start.backbone, module.trainable_parameters()
    total = sum(p.numel() for network in b.networks().values() for p in network.parameters())
    learning = sum(p.numel() for p in trained.values())
    parts = dict.fromkeys(name.partition(".")[0] for name in trained)
    pictures = settings.batch_size * settings.loop.accumulate
    resumed = resume_from(module, settings.folder, settings.resume)
    num, room = num_devices(settings, device.type), capacity(device)
    memory, saved = estimate(module, settings, device.type, num), []
    if room and memory.peak > room:
        saved = economies(module, settings, device.type, num, memory, room)
    texts = {
        "run directory": str(settings.folder),
        "backbone": f"{b.name}, {b.image_size} px, latents {b.latent_shape_CHW}",
        "starts from": f"{start.origin}, {start.steps:,} steps"
        + (f"; resumes {resumed.path}" if resumed else ""),
        "parameters": f"{total:,}, of which {learning:,} learn: {', '.join(parts)}",
        "steps": f"{settings.loop.max_steps:,} of {pictures} pictures a device",
        "device": str(device),
    }
    if module.prior_weight:
        texts["class pictures"] = class_pictures.described(settings.data.prior)
    away = sorted(module.lean.resting & set(b.networks()))
    if away and device.type != "cpu":
        texts["waiting on the host"] = f"{', '.join(away)}, which no step needs"
    return Description(texts, memory, room, saved)


def _made(settings: FitSettings, device: torch.device) -> tuple[Start, DenoisingTraining]:
    """What trains on a device, and what from. Raises: UserError before weights are read, where it can."""
    rounded_to(str(settings.model["frozen"]), settings.loop, device.type)
    start, module = make_module(settings)
    module.lean = lean_of(module, settings, device.type)
    return start, module


def export(module: DenoisingTraining, folder: Path, facts: dict[str, Any]) -> None:
    """Write the averaged weights and what is known about them, the whole folder or nothing."""
    with whole_folder(folder) as temporary, module.averaging.swapped_in():
        module.export(temporary / "parts")
        for path in (temporary / "parts").iterdir():
            path.rename(temporary / path.name)
        (temporary / "parts").rmdir()
        write_json(temporary / FACTS, facts)


def default_grid(
    settings: FitSettings, module: DenoisingTraining, source: Source, folder: Folder
) -> samples.Grid:
    """A grid of people of the training data; a TDM sees their captions only."""
    rows: list[list[samples.Case]] = []
    if module.REFERENCES:
        data = settings.data
        asked = (GRID_ROWS, settings.seed, data.labels, data.skip_corrupt)
        rows = samples.cases_from_data(source, folder, *asked)
    else:
        rows = samples.captions_from_data(source, folder, GRID_ROWS)
    return samples.Grid(rows, settings.sampler.with_guider(module.KIND), seed=settings.seed)
