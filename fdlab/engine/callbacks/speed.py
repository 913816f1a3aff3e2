"""speed.csv: how fast a training goes, what it waits for and what it takes. No result depends on it."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from torch.utils.flop_counter import FlopCounterMode

from fdlab.engine.callbacks.curves import append, cut
from fdlab.engine.callbacks.stepping import StepCallback, is_due
from fdlab.engine.draws import Draws
from fdlab.engine.module import Training
from fdlab.randomness import torch_generator

PEAKS = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "L4": 121, "A10": 125, "4090": 165, "3090": 71}
"""TFLOP/s of dense matrix products in bf16 by a part of a device's name (their makers' data sheets)."""


FEWEST = 20
"""Steps that are worth counting a pass's operations for, which takes as long as one."""


class Speed(StepCallback):
    """Columns, each since the row before: step, seconds (of training), images_per_second (all processes),
    data_wait (share of the time that is spent waiting for batches), memory (GiB: the device's peak, or on a
    CPU the process's), tflops (a second and device, of the passes' matrix products and convolutions) and
    utilisation (share of what the device can do in bf16; empty where that is not known).

    What other callbacks take, as sample grids, is no part of it. A pass's operations are counted once a
    process, in one that is thrown away (counting changes roundings); where networks are compiled or sharded
    there is nothing to count.
    """

    def __init__(self, path: Path, every: int, counts: bool = True) -> None:
        super().__init__()
        self.path, self.every, self._counts = Path(path), every, counts
        self.last = _Last(self)
        """To be called after every other callback."""
        self._flops: float | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Lightning's hook."""
        super().on_train_start(trainer, pl_module)
        self._before = cut(self.path, pl_module.step) if trainer.is_global_zero else 0.0
        self._first = self.since = time.monotonic()
        self._forget()

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Lightning's hook, once the batch is there."""
        if self._counts and pl_module.max_steps - pl_module.step >= FEWEST:
            self._counts, self._flops = False, operations(trainer, pl_module, batch)
            self.since = time.monotonic()
        self._waited += time.monotonic() - self.since
        self._pictures += len(batch.get("ids", ())) if isinstance(batch, dict) else 0

    def on_pass(self, trainer: lightning.Trainer, module: Training) -> None:
        """Count passes and the time that they took."""
        self._passes += 1
        self._took += time.monotonic() - self.since

    def on_step(self, trainer: lightning.Trainer, module: Training) -> None:
        """Write a row when it is due."""
        if not (is_due(module.step, self.every, module.max_steps) and self._passes):
            return
        took, device = self._took, module.device
        row: dict[str, float] = {
            "images_per_second": round(self._pictures * trainer.world_size / took, 3),
            "data_wait": round(min(1.0, self._waited / took), 4),
            "memory": round(peak_memory(device), 3),
        }
        if self._flops is not None:
            rate, peak = self._flops * self._passes / took / 1e12, peak_tflops(device)
            row |= {"tflops": float(f"{rate:.4g}")} | ({"utilisation": round(rate / peak, 4)} if peak else {})
        self._forget()
        if not trainer.is_global_zero:
            return
        seconds = round(self._before + time.monotonic() - self._first, 2)
        append(self.path, {"step": module.step, "seconds": seconds, **row})
        for logger in trainer.loggers:
            logger.log_metrics({f"speed/{name}": value for name, value in row.items()}, step=module.step)

    def _forget(self) -> None:
        self._passes, self._pictures, self._waited, self._took = 0, 0, 0.0, 0.0


class _Last(lightning.Callback):
    """Where the wait for the next batch begins."""

    def __init__(self, speed: Speed) -> None:
        self.speed = speed

    def on_train_batch_end(self, *arguments: Any, **more: Any) -> None:
        """Lightning's hook."""
        self.speed.since = time.monotonic()


def operations(trainer: lightning.Trainer, module: Training, batch: Any) -> float:
    """Floating-point operations of matrix products and convolutions in one forward and backward pass."""
    draws, learning = Draws(torch_generator(0, "counting")), list(module.trainable_parameters().values())
    with FlopCounterMode(display=False) as counter, trainer.precision_plugin.forward_context():
        loss = module.losses(batch, draws)["loss"]
        torch.autograd.grad(loss, learning, allow_unused=True)
    return float(counter.get_total_flops())


def peak_memory(device: torch.device) -> float:
    """GiB at most so far: of the device's memory, or on a CPU the process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    # In kilobytes, but on macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def peak_tflops(device: torch.device) -> float | None:
    """What a device can do in bf16, where it is known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((float(peak) for part, peak in PEAKS.items() if part in name), None)
