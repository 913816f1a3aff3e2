"""Ctrl-C or SIGTERM: finish the step, save, and stop; a second Ctrl-C stops at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import lightning

from fdlab.training.callbacks.checkpoint import SaveCheckpoints
from fdlab.training.callbacks.stepping import StepCallback
from fdlab.training.module import Training

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopWhenAsked(StepCallback):
    """`stopped` is true after a run that was asked to stop; its last step is in last.ckpt."""

    def __init__(self, saver: SaveCheckpoints) -> None:
        super().__init__()
        self.saver, self.asked, self.stopped = saver, False, False
        self._before: dict[int, Any] = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Lightning's hook."""
        super().on_train_start(trainer, pl_module)
        # Python lets only the main thread of a process set handlers.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}

    def on_step(self, trainer: lightning.Trainer, module: Training) -> None:
        """Stop between two steps, all processes at the same one."""
        asked = trainer.strategy.reduce_boolean_decision(self.asked, all=False)
        if asked and module.step < module.max_steps:
            self.saver.save(trainer, module)
            self.stopped = trainer.should_stop = True

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Lightning's hook."""
        self._restore()

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Lightning's hook."""
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
