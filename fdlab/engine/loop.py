"""Run any training with any data through Lightning: exact resume, progress, curves, checkpoints,
interruption."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import lightning
import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.plugins import MixedPrecision

from fdlab.config.launch import is_alone_in_a_job, launched
from fdlab.engine import checkpoints, strategies
from fdlab.engine.callbacks.checkpoint import SaveCheckpoints
from fdlab.engine.callbacks.clock import UNKNOWN, StopInTime
from fdlab.engine.callbacks.curves import Curves
from fdlab.engine.callbacks.interrupt import StopWhenAsked
from fdlab.engine.callbacks.profile import Profile
from fdlab.engine.callbacks.progress import ShowProgress
from fdlab.engine.callbacks.speed import Speed
from fdlab.engine.continuing import Resumed, make_room
from fdlab.engine.module import Training
from fdlab.engine.precision import SCALED, choose_device, lightning_precision, tf32
from fdlab.engine.ranks import Ranks
from fdlab.errors import Failure, UserError

STARTED = ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "NODE_RANK", "GROUP_RANK", "RANK")
"""Environment variables, of which torchrun, SLURM or a person starting several nodes sets one."""


@dataclass(frozen=True)
class LoopSettings:
    """conf/trainer, as far as the loop is concerned."""

    max_steps: int = UNKNOWN
    minutes: float | None = None
    """Where given, the run lasts so long in all, however many steps that makes."""
    accumulate: int = 1
    batch_size: int | None = None
    """Pictures a device and pass, where a batch is one of pictures."""
    precision: str = "auto"
    tf32: bool = False
    """Let GPUs multiply fp32 matrices in TF32."""
    accelerator: str = "auto"
    devices: str | int = "auto"
    nodes: int = 1
    """Machines that train together."""
    strategy: str = "auto"
    log_every: int = 10
    checkpoint_every: int | None = 100
    """None: no state is saved at all, of a training that is only tried."""
    keep_checkpoints: int = 2
    show: bool = True
    counts: bool = False
    """Count the operations of a pass, which those of compiled or sharded networks do not show."""
    profile: bool = False
    """Trace a few steps."""

    @classmethod
    def read(cls, trainer: Mapping[str, Any], profile: bool = False) -> LoopSettings:
        """Take what conf/trainer says of it."""
        texts = ("precision", "accelerator", "strategy")
        numbers = (
            "max_steps",
            "accumulate",
            "batch_size",
            "log_every",
            "checkpoint_every",
            "keep_checkpoints",
            "nodes",
        )
        chosen: dict[str, Any] = {key: str(trainer[key]) for key in texts}
        chosen |= {key: int(trainer[key]) for key in numbers}
        counts = trainer["compile"] == "none" and chosen["strategy"] in ("auto", "ddp")
        chosen["tf32"] = bool(trainer["tf32"])
        return cls(**chosen, devices=trainer["devices"], counts=counts, profile=profile)


class Batches(Protocol):
    """A LightningDataModule whose batches can begin anywhere."""

    start: int
    stop: int


class _RestoreOptimizer(lightning.Callback):
    """Lightning makes the optimiser; only then can its state be put back."""

    def __init__(self, state: dict[str, Any] | None) -> None:
        self.state = state

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Lightning's hook."""
        if len(steps := set(Ranks.here().gathered(pl_module.step))) > 1:
            raise Failure(
                f"the processes would go on from different steps ({', '.join(map(str, sorted(steps)))}): the"
                " disk shows them different checkpoints; start the same command again."
            )
        pl_module.averaging.to_parameters_device()
        if self.state is not None:
            checkpoints.restore_optimizer(self.state, pl_module, trainer.optimizers[0])
            self.state = None


def check_device(settings: LoopSettings, local_rank: int = 0) -> torch.device:
    """The device that a run will work on. Raises: UserError for a device, a number of them, a strategy or a
    precision that is not to be had, before anything is loaded."""
    device = choose_device(settings.accelerator, local_rank)
    lightning_precision(settings.precision, device)
    strategies.check(settings.strategy, settings.precision)
    if settings.nodes > 1 and not any(name in os.environ for name in STARTED):
        raise UserError(
            f"trainer.nodes={settings.nodes}: machines that train together are started by torchrun or "
            "srun, a command on each; see conf/README.md."
        )
    devices, launch = settings.devices, launched()
    if launch is not None:
        launch.check(devices, settings.nodes)
    if devices == "auto":
        return device
    if not str(devices).lstrip("-").isdecimal() or int(devices) == 0 or int(devices) < -1:
        raise UserError(f"trainer.devices={devices}: allowed are auto and whole numbers from 1.")
    if device.type != "cpu" and int(devices) > torch.cuda.device_count():
        there = torch.cuda.device_count()
        raise UserError(f"trainer.devices={devices}, but here are {there} of type {device.type}.")
    return device


def run(
    module: Training,
    data: Batches,
    settings: LoopSettings,
    folder: Path,
    resumed: Resumed | None = None,
    callbacks: Sequence[lightning.Callback] = (),
    loggers: Sequence[Any] = (),
) -> float:
    """Train `module` to `settings.max_steps`; returns the seconds this process trained.

    Writes folder/{metrics.csv,speed.csv,checkpoints/}. `resumed` is a state (`continuing.resume_from`) to go
    on from, bit for bit; it is used up. Raises: KeyboardInterrupt after a signal, with the state saved;
    Diverged where a loss, a gradient or a weight is not finite, with the state before that step saved.
    """
    folder = Path(folder)
    module.max_steps, module.accumulate = settings.max_steps, settings.accumulate
    state = resumed.state if resumed else None
    if state is not None:
        checkpoints.restore_weights(state, module)
    clock = StopInTime(folder / "metrics.csv", settings.minutes) if settings.minutes is not None else None
    if module.step >= settings.max_steps or (clock and clock.is_over(module.step)):
        return 0.0
    data.start = module.first_pass = module.step * settings.accumulate
    data.stop = settings.max_steps * settings.accumulate

    make_room(folder, resumed)
    saver = SaveCheckpoints(folder / "checkpoints", settings.checkpoint_every, settings.keep_checkpoints)
    stopper = StopWhenAsked(saver)
    # The progress line early: it has to leave the terminal well, whatever those after it raise.
    ordered: list[lightning.Callback] = [_RestoreOptimizer(state), *([clock] if clock else [])]
    speed = Speed(folder / "speed.csv", settings.log_every, counts=settings.counts)
    ordered += [
        ShowProgress(show=settings.show, batch_size=settings.batch_size),
        Curves(folder / "metrics.csv", settings.log_every),
        speed,
    ]
    ordered += [Profile(folder / "profile")] if settings.profile else []
    ordered += [*callbacks, saver, stopper, speed.last]
    started = time.monotonic()
    with quiet(), tf32(settings.tf32), stopper.listening():
        trainer = _trainer(
            settings, settings.max_steps - module.step, module.optimization.clip, ordered, loggers, folder
        )
        module.train()
        trainer.fit(module, datamodule=data)  # type: ignore[arg-type]
    if stopper.stopped or stopper.asked:
        raise KeyboardInterrupt(f"stopped after step {module.step}")
    return time.monotonic() - started


def _trainer(
    settings: LoopSettings,
    num_steps: int,
    clip: float,
    callbacks: list[lightning.Callback],
    loggers: Sequence[Any],
    folder: Path,
) -> lightning.Trainer:
    device = choose_device(settings.accelerator)
    precision = lightning_precision(settings.precision, device)
    strategy, precision = strategies.make(settings.strategy, precision, clip)
    # Given itself: by its name Lightning would take another where there is no GPU.
    scaled = precision == SCALED
    own = {"cuda": "gpu"}.get(device.type, device.type)
    devices = settings.devices
    if (launch := launched()) is not None:
        devices = launch.per_node
    elif devices == "auto" and device.type == "cpu":
        devices = 1
    plugins: list[Any] = [MixedPrecision(SCALED, device.type)] if scaled else []
    if is_alone_in_a_job():
        # Lightning would have srun start the others.
        plugins.append(LightningEnvironment())
    return lightning.Trainer(
        max_steps=num_steps,
        accelerator=own if settings.accelerator == "auto" else settings.accelerator,
        num_nodes=settings.nodes,
        devices=devices,
        strategy=strategy,
        precision=None if scaled else precision,  # type: ignore[arg-type]
        plugins=plugins or None,
        accumulate_grad_batches=settings.accumulate,
        callbacks=callbacks,
        logger=list(loggers) or False,
        default_root_dir=folder,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        barebones=False,
    )


class quiet(warnings.catch_warnings):
    """Lightning without advertisements and without advice that does not apply here."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        # Batches come from memory maps: a worker process costs more than it gives at small sizes.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # One pass over what is left of the run is all there is, however short.
        warnings.filterwarnings(
            "ignore", message=".*number of training batches.*smaller than the logging interval.*"
        )
        # Frozen networks are in evaluation mode on purpose.
        warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
        # torch.compile on diffusers' version checks, which do not change.
        warnings.filterwarnings("ignore", message="Dynamo detected a call to a `functools.lru_cache`.*")
        # torch.compile on blocks, whose inputs other blocks made.
        warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf.*")
        # Lightning 2.6 against torch 2.13, inside Lightning.
        warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*", category=FutureWarning)
        self._levels = {
            name: logging.getLogger(name).level for name in ("lightning.pytorch", "lightning.fabric")
        }
        for name in self._levels:
            logging.getLogger(name).setLevel(logging.WARNING)
        return entered

    def __exit__(self, *arguments: Any) -> None:
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)
        super().__exit__(*arguments)
