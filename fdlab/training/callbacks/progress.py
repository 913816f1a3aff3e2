"""How far the run is: a bar with rate and time left, or a line now and then where there is no terminal."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import lightning

from fdlab.progress import Progress, bar
from fdlab.training.callbacks.clock import UNKNOWN
from fdlab.training.callbacks.stepping import StepCallback
from fdlab.training.module import Training


class ShowProgress(StepCallback):
    """Count steps on the first process; what an earlier process did is shown as done."""

    def __init__(self, description: str = "train", show: bool = True) -> None:
        super().__init__()
        self.description, self.show = description, show
        self._stack = ExitStack()
        self._bar: Progress | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Lightning's hook."""
        super().on_train_start(trainer, pl_module)
        show = self.show and trainer.is_global_zero
        known = pl_module.max_steps if pl_module.max_steps < UNKNOWN else None
        self._bar = self._stack.enter_context(bar(self.description, known, done=pl_module.step, show=show))

    def on_step(self, trainer: lightning.Trainer, module: Training) -> None:
        """One step further, of as many as the run has by now."""
        if self._bar is not None:
            self._bar.expect(module.max_steps)
            self._bar.advance()

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Lightning's hook."""
        self._stack.close()

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Lightning's hook: leave the terminal as it was."""
        self._stack.close()
