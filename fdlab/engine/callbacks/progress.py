"""How far the run is: a bar with rate and time left, or a line now and then where there is no terminal."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any

import lightning

from fdlab.engine.callbacks.clock import UNKNOWN
from fdlab.engine.callbacks.stepping import StepCallback
from fdlab.engine.module import Training
from fdlab.progress import Progress, bar


class ShowProgress(StepCallback):
    """Count steps on the first process; what an earlier process did is shown as done."""

    def __init__(self, description: str = "train", show: bool = True, batch_size: int | None = None) -> None:
        super().__init__()
        self.description, self.show, self.batch_size = description, show, batch_size
        self._stack = ExitStack()
        self._bar: Progress | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Lightning's hook."""
        super().on_train_start(trainer, pl_module)
        show = self.show and trainer.is_global_zero
        if show and self.batch_size:
            print(_step(self.batch_size, trainer, pl_module), file=sys.stderr, flush=True)
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


def _step(batch_size: int, trainer: lightning.Trainer, module: Training) -> str:
    """What a step takes, in words."""
    parts = [f"{batch_size} pictures"]
    parts += [f"{module.accumulate} batches"] if module.accumulate > 1 else []
    parts += [f"{trainer.world_size} devices"] if trainer.world_size > 1 else []
    whole = f" = {batch_size * module.accumulate * trainer.world_size} pictures" if len(parts) > 1 else ""
    return f"a step: {' x '.join(parts)}{whole}; learning rate {module.optimization.lr:g}"
