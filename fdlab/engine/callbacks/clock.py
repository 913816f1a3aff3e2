"""A run that lasts minutes instead of steps: its number of steps is estimated anew after each."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import lightning

from fdlab.engine.callbacks.curves import seconds_until
from fdlab.engine.callbacks.stepping import StepCallback
from fdlab.engine.module import Training

UNKNOWN = 10**9
"""Steps of a run whose length is not known yet."""


class StopInTime(StepCallback):
    """End the run after `minutes` in all, those of earlier processes (as metrics.csv says) included.

    Until then `module.max_steps` says how many steps it will have come to, and the learning rate follows.
    """

    def __init__(self, path: Path, minutes: float) -> None:
        super().__init__()
        self.path, self.seconds = path, 60.0 * minutes
        self._before, self._start = 0.0, 0.0

    def is_over(self, step: int) -> bool:
        """Whether earlier processes have used the time up."""
        # metrics.csv rounds, and its clock starts a moment later.
        return seconds_until(self.path, step) >= 0.999 * self.seconds

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Lightning's hook."""
        super().on_train_start(trainer, pl_module)
        self._before, self._start = seconds_until(self.path, pl_module.step), time.monotonic()
        if pl_module.step:
            self._estimate(trainer, pl_module)

    def on_step(self, trainer: lightning.Trainer, module: Training) -> None:
        """Estimate; the callbacks after this one take the step at which time is up for the run's last."""
        self._estimate(trainer, module)
        if module.step >= module.max_steps:
            trainer.should_stop = True

    def _estimate(self, trainer: lightning.Trainer, module: Training) -> None:
        steps, gone = module.step, self._before + time.monotonic() - self._start
        if gone < self.seconds:
            steps = max(steps + 1, math.ceil(steps * self.seconds / max(gone, 1e-9)))
        # Every process has a clock of its own: the first one's counts.
        module.max_steps = trainer.strategy.broadcast(min(steps, UNKNOWN))
