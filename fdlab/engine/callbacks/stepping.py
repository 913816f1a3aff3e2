"""A callback that counts optimiser steps from the run's first, not Lightning's batches of this process."""

from __future__ import annotations

from typing import Any

import lightning

from fdlab.engine.module import Training


class StepCallback(lightning.Callback):
    """`on_step` is called after every optimiser step; `module.step` says how many there were."""

    def __init__(self) -> None:
        self._seen = -1

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Lightning's hook."""
        self._seen = pl_module.step

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Lightning's hook."""
        self.on_pass(trainer, pl_module)
        if pl_module.step != self._seen:
            self._seen = pl_module.step
            self.on_step(trainer, pl_module)

    def on_pass(self, trainer: lightning.Trainer, module: Training) -> None:
        """After every forward and backward pass."""

    def on_step(self, trainer: lightning.Trainer, module: Training) -> None:
        """After every optimiser step."""


def is_due(step: int, every: int, last: int) -> bool:
    """Every `every` steps (0: never) and after the last one."""
    return every > 0 and (step % every == 0 or step == last)
