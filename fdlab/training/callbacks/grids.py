"""samples/step-N.png while training runs."""

from __future__ import annotations

from pathlib import Path

import lightning

from fdlab.training import samples
from fdlab.training.callbacks.stepping import StepCallback, is_due
from fdlab.training.denoising import DenoisingTraining
from fdlab.training.module import Training


class DrawGrids(StepCallback):
    """Draw the same grid every `every` steps and at the end, with the averaged weights, from the first
    process."""

    def __init__(self, folder: Path, grid: samples.Grid, every: int) -> None:
        super().__init__()
        self.folder, self.grid, self.every = Path(folder), grid, every

    def on_step(self, trainer: lightning.Trainer, module: Training) -> None:
        """Draw when it is due."""
        if not (
            trainer.is_global_zero and self.grid.rows and is_due(module.step, self.every, module.max_steps)
        ):
            return
        assert isinstance(module, DenoisingTraining)
        path = self.folder / f"step-{module.step}.png"
        with module.averaging.swapped_in():
            samples.write(path, samples.draw(module.backbone, self.grid, module.device))
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                logger.log_image("samples", [str(path)], step=module.step)
