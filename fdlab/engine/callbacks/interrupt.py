"""Ctrl-C or SIGTERM: finish the step, save, and stop; a second one stops at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import lightning

from fdlab.config.directory import is_main_process
from fdlab.engine.callbacks.checkpoint import SaveCheckpoints
from fdlab.engine.callbacks.stepping import StepCallback
from fdlab.engine.module import Training

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _StopNow(BaseException):
    """Stop between two instructions. No KeyboardInterrupt, which Lightning turns into an exit of its own."""


class StopWhenAsked(StepCallback):
    """`asked` is true once a signal came; the step at which the run stopped is in last.ckpt then."""

    def __init__(self, saver: SaveCheckpoints) -> None:
        super().__init__()
        self.saver, self.asked, self.stopped = saver, False, False
        self._training, self._pid = False, os.getpid()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals while a trainer works; before its first step a signal stops at once.

        Raises: KeyboardInterrupt for what was stopped at once.
        """
        # Python lets only the main thread of a process set handlers.
        before = {n: signal.getsignal(n) for n in SIGNALS} if _in_main_thread() else {}
        self._listen()
        try:
            yield
        except _StopNow:
            saved = f"the last saved state is that of step {self.saver.saved}" if self.saver.saved else ""
            raise KeyboardInterrupt(f"stopped at once; {saved or 'no state was saved yet'}") from None
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Lightning's hook: in place of the handlers that Lightning has just set."""
        super().on_train_start(trainer, pl_module)
        self._listen()
        self._training = True

    def on_step(self, trainer: lightning.Trainer, module: Training) -> None:
        """Stop between two steps, all processes at the same one."""
        asked = trainer.strategy.reduce_boolean_decision(self.asked, all=False)
        if asked and module.step < module.max_steps:
            self.saver.save(trainer, module)
            self.stopped = trainer.should_stop = True

    def _listen(self) -> None:
        if _in_main_thread():
            for number in SIGNALS:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            # A worker process that was forked from this one; it ends when this one does.
            return
        if self.asked or not self._training:
            raise _StopNow
        self.asked = True
        if not is_main_process():
            return
        # Not by print: the signal may come while Python's own buffer is written to.
        os.write(2, b"\nstopping after this step; a second signal stops at once\n")


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
