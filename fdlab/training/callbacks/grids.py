"""samples/step-N.png while training runs."""

from __future__ import annotations

from pathlib import Path

import lightning

from fdlab.engine.callbacks.stepping import StepCallback, is_due
from fdlab.engine.module import Training
from fdlab.engine.ranks import Ranks
from fdlab.pipeline.artist import Artist
from fdlab.training import samples
from fdlab.training.denoising import DenoisingTraining


class DrawGrids(StepCallback):
    """Draw the same grid every `every` steps and at the end, with the averaged weights. Every process draws
    a share; the first writes it."""

    def __init__(self, folder: Path, grid: samples.Grid, every: int) -> None:
        super().__init__()
        self.folder, self.grid, self.every = Path(folder), grid, every
        # Kept: a compiled UNet is compiled anew for every new pipeline.
        self._artist: Artist | None = None

    def on_step(self, trainer: lightning.Trainer, module: Training) -> None:
        """Draw when it is due."""
        if not (self.grid.rows and is_due(module.step, self.every, module.max_steps)):
            return
        assert isinstance(module, DenoisingTraining)
        path = self.folder / f"step-{module.step}.png"
        settings = self.grid.settings
        # The model in training stands in for whichever model the guider calls. Made before the networks are
        # whole, since it moves them.
        models = dict.fromkeys(settings.needs, module.backbone)
        self._artist = self._artist or Artist(models, settings, device=str(module.device), half=False)
        with module.averaged():
            drawn_HW3 = samples.draw(self._artist, self.grid, Ranks.here())
        if not trainer.is_global_zero:
            return
        samples.write(path, drawn_HW3)
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                logger.log_image("samples", [str(path)], step=module.step)
