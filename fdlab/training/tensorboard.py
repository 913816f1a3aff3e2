"""Curves, sample grids and the final table in TensorBoard's files, where logger=tensorboard asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger

from fdlab.data.pictures import read_image

FOLDER = "tensorboard"


class TensorBoard(TensorBoardLogger):
    """Lightning's logger, which also takes pictures, and goes on where a run stopped."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(save_dir=str(run_dir), name=FOLDER, version="")

    def goes_on_at(self, step: int) -> None:
        """Say, before anything is logged, after which step a resumed run goes on: what was logged beyond it
        will be logged again, and is not shown twice."""
        self._kwargs["purge_step"] = step + 1

    def log_image(self, key: str, images: Sequence[str], step: int | None = None) -> None:
        """Log PNG files under a name, as Lightning's logger for Weights & Biases does."""
        for number, path in enumerate(images):
            name = key if len(images) == 1 else f"{key}/{number}"
            self._picture(name, Path(path), step or 0)

    def log_final(
        self,
        metrics: Mapping[str, Any],
        table: str,
        figures: Sequence[tuple[str, Path]],
    ) -> None:
        """Log an evaluation: the main method's metrics, all methods' table (Markdown), the figures by
        caption."""
        for name, entry in metrics.items():
            self.experiment.add_scalar(f"evaluation/{name}", entry["value"], 0)
        self.experiment.add_text("evaluation/table", table, 0)
        for _, path in figures:
            self._picture(f"evaluation/{path.stem}", path, 0)
        self.experiment.flush()

    def _picture(self, name: str, path: Path, step: int) -> None:
        self.experiment.add_image(name, read_image(path), step, dataformats="HWC")
