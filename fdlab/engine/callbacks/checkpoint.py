"""checkpoints/last.ckpt and a few step-N.ckpt, each written whole."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import lightning

from fdlab.engine import checkpoints
from fdlab.engine.callbacks.stepping import StepCallback, is_due
from fdlab.engine.continuing import numbered
from fdlab.engine.finite import Diverged
from fdlab.engine.module import Training
from fdlab.files import whole


class SaveCheckpoints(StepCallback):
    """Save every `every` steps and at the end; keep the `keep` newest numbered ones beside last.ckpt. Where
    `every` is None, nothing is ever saved."""

    def __init__(self, folder: Path, every: int | None, keep: int) -> None:
        super().__init__()
        self.folder, self.every, self.keep = Path(folder), every, keep
        self.saved = 0
        """Step of the last state that was saved, or gone on from."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Lightning's hook."""
        super().on_train_start(trainer, pl_module)
        self.saved = pl_module.step

    def on_step(self, trainer: lightning.Trainer, module: Training) -> None:
        """Save when it is due."""
        if is_due(module.step, self.every or 0, module.max_steps) or module.step == module.max_steps:
            self.save(trainer, module)

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Lightning's hook: a step that was refused left the state before it, which is kept."""
        if not isinstance(exception, Diverged):
            return
        if pl_module.step > 0 and not (self.folder / _name(pl_module)).exists():
            self.save(trainer, pl_module)
        # Where one process ends, Lightning ends the others: not before the first has written.
        trainer.strategy.barrier()

    def save(self, trainer: lightning.Trainer, module: Training) -> None:
        """Save now, from the first process. Raises: Diverged, in every process, where a weight is not
        finite."""
        if self.every is None:
            return
        state = checkpoints.collect(module, trainer.optimizers[0])
        if trainer.is_global_zero:
            self._write(state, module)
        self.saved = module.step

    def _write(self, state: dict[str, Any], module: Training) -> None:
        path = self.folder / _name(module)
        checkpoints.write(path, state)
        with whole(self.folder / checkpoints.LAST) as temporary:
            try:
                # The same bytes under a second name: no second copy on disk.
                temporary.hardlink_to(path)
            except OSError:
                # Some network file systems have no links.
                shutil.copyfile(path, temporary)
        for old in numbered(self.folder)[: -self.keep or None]:
            old.unlink()


def _name(module: Training) -> str:
    return f"step-{module.step}.ckpt"
