"""metrics.csv: one row every few steps, means since the row before; it survives kills and resumes."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import torch

from fdlab.engine.callbacks.stepping import StepCallback, is_due
from fdlab.engine.module import Training
from fdlab.files import write_text


class Curves(StepCallback):
    """Columns: step, seconds (of training, all processes of the run), lr, every loss, and grad_norm (before
    clipping).

    A resumed run cuts the rows after its checkpoint's step, so that each step has one row. Rows also go to
    the trainer's loggers.
    """

    def __init__(self, path: Path, every: int) -> None:
        super().__init__()
        self.path, self.every = Path(path), every
        self._sums: dict[str, torch.Tensor] = {}
        self._norms: list[torch.Tensor] = []
        self._passes, self._before, self._start = 0, 0.0, 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Lightning's hook."""
        super().on_train_start(trainer, pl_module)
        if trainer.is_global_zero:
            self._before = cut(self.path, pl_module.step)
        self._start = time.monotonic()

    def on_pass(self, trainer: lightning.Trainer, module: Training) -> None:
        """Add up the losses without waiting for the device."""
        for name, value in module.latest.items():
            before = self._sums.get(name)
            self._sums[name] = value if before is None else before + value
        self._passes += 1

    def on_step(self, trainer: lightning.Trainer, module: Training) -> None:
        """Write a row when it is due."""
        self._norms += [] if module.grad_norm is None else [module.grad_norm]
        if not is_due(module.step, self.every, module.max_steps):
            return
        reduce = trainer.strategy.reduce
        means = {
            name: float(reduce(value, reduce_op="mean")) / self._passes for name, value in self._sums.items()
        }
        if self._norms:
            means["grad_norm"] = float(torch.stack(self._norms).mean())
        self._sums, self._passes, self._norms = {}, 0, []
        if not trainer.is_global_zero:
            return
        rate = module.optimization.lr_at(module.step - 1, module.max_steps)
        seconds = self._before + time.monotonic() - self._start
        row = {"step": module.step, "seconds": round(seconds, 2), "lr": rate, **means}
        # Empty where fp16 skipped all the steps: the first row decides which columns there are.
        append(self.path, {**row, "grad_norm": means.get("grad_norm", "")})
        for logger in trainer.loggers:
            logger.log_metrics({"lr": rate, **means}, step=module.step)


def append(path: Path, row: Mapping[str, float | str]) -> None:
    """Add a row, and the header where there is none; where there is one, the row has its columns. A row is
    one short write, so a kill leaves it whole or torn off at the file's end, which `cut` repairs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = _header(path)
    text = io.StringIO()
    writer = csv.DictWriter(text, known or list(row), lineterminator="\n", extrasaction="ignore")
    if not known:
        writer.writeheader()
    writer.writerow(row)
    with path.open("a", encoding="utf-8", newline="") as stream:
        stream.write(text.getvalue())


def _header(path: Path) -> list[str]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return next(csv.reader(stream), [])


def cut(path: Path, step: int) -> float:
    """Keep the rows up to `step`, drop the later ones and a torn last one; return the last kept row's
    seconds."""
    if not path.exists():
        return 0.0
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if not lines or step == 0:
        path.unlink()
        return 0.0
    kept = _rows(lines, step)
    write_text(path, "".join([lines[0], *kept]))
    return float(kept[-1].split(",")[1]) if kept else 0.0


def seconds_until(path: Path, step: int) -> float:
    """Seconds of training that the last row up to `step` says; 0 where there is none."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    kept = _rows(lines, step)
    return float(kept[-1].split(",")[1]) if kept else 0.0


def _rows(lines: list[str], step: int) -> list[str]:
    """The whole rows up to `step`."""
    width = len(lines[0].split(",")) if lines else 0
    rows = [line for line in lines[1:] if line.endswith("\n") and len(line.split(",")) == width]
    return [line for line in rows if int(line.split(",")[0]) <= step]
