"""samples/step-N.png while training runs."""

from __future__ import annotations

from pathlib import Path

import lightning

from fdlab.diffusion import guiders
from fdlab.diffusion.schedulers import make_scheduler
from fdlab.pipeline.face_diffuser import FaceDiffuserPipeline
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
        # Kept: a compiled UNet is compiled anew for every new pipeline.
        self._pipeline: FaceDiffuserPipeline | None = None

    def on_step(self, trainer: lightning.Trainer, module: Training) -> None:
        """Draw when it is due."""
        if not (
            trainer.is_global_zero and self.grid.rows and is_due(module.step, self.every, module.max_steps)
        ):
            return
        assert isinstance(module, DenoisingTraining)
        path = self.folder / f"step-{module.step}.png"
        self._pipeline = self._pipeline or _pipeline(module, self.grid)
        with module.averaging.swapped_in():
            samples.write(path, samples.draw(self._pipeline, self.grid))
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                logger.log_image("samples", [str(path)], step=module.step)


def _pipeline(module: DenoisingTraining, grid: samples.Grid) -> FaceDiffuserPipeline:
    """The model in training as a pipeline: in place of whichever model the guider calls."""
    backbone = module.backbone
    scheduler = make_scheduler(grid.scheduler, backbone.need("scheduler"))
    models = dict.fromkeys(guiders.needs(grid.guider), backbone)
    pipeline = FaceDiffuserPipeline.from_backbones(**models, scheduler=scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
