"""checkpoints/last.ckpt and a few step-N.ckpt, each written whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import lightning

from fdlab.files import whole
from fdlab.training import checkpoints
from fdlab.training.callbacks.stepping import StepCallback, is_due
from fdlab.training.module import Training


class SaveCheckpoints(StepCallback):
    """Save every `every` steps and at the end; keep the `keep` newest numbered ones beside last.ckpt."""

    def __init__(self, folder: Path, every: int, keep: int) -> None:
        super().__init__()
        self.folder, self.every, self.keep = Path(folder), every, keep

    def on_step(self, trainer: lightning.Trainer, module: Training) -> None:
        """Save when it is due."""
        if is_due(module.step, self.every, module.max_steps) or module.step == module.max_steps:
            self.save(trainer, module)

    def save(self, trainer: lightning.Trainer, module: Training) -> None:
        """Save now, from the first process."""
        if not trainer.is_global_zero:
            return
        path = self.folder / f"step-{module.step}.ckpt"
        checkpoints.write(path, module, trainer.optimizers[0])
        with whole(self.folder / checkpoints.LAST) as temporary:
            try:
                # The same bytes under a second name: no second copy on disk.
                temporary.hardlink_to(path)
            except OSError:
                # Some network file systems have no links.
                shutil.copyfile(path, temporary)
        for old in numbered(self.folder)[: -self.keep or None]:
            old.unlink()


def numbered(folder: Path) -> list[Path]:
    """The step-N.ckpt files, oldest first."""
    return sorted(folder.glob("step-*.ckpt"), key=lambda path: int(path.stem.removeprefix("step-")))
