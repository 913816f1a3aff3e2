"""The batches of a training run, as Lightning asks for them."""

from __future__ import annotations

from dataclasses import replace

import lightning
from torch.utils.data import DataLoader

from fdlab.data.batches import Batch, Batches, BatchSettings, Embedded, Texts
from fdlab.data.beside import Beside, Classes
from fdlab.data.entry import Source


class StatelessData(lightning.LightningDataModule):
    """Batches `start` to `stop` of an endless stream; resuming is another `start`.

    The trainer's rank and world size choose each process's share: pass `use_distributed_sampler=False`.
    """

    def __init__(
        self,
        source: Source,
        settings: BatchSettings,
        stop: int,
        num_workers: int = 0,
        embedded: Embedded | None = None,
        texts: Texts | None = None,
        classes: Classes | None = None,
    ) -> None:
        super().__init__()
        self.source, self.settings, self.stop, self.num_workers = source, settings, stop, num_workers
        self.embedded, self.texts, self.classes = embedded, texts, classes
        self.start = 0

    def train_dataloader(self) -> DataLoader[Batch]:
        """One pass over what is left of the run; each item is a whole batch."""
        settings = self.settings
        on_gpu = False
        if self.trainer is not None:
            on_gpu = self.trainer.strategy.root_device.type == "cuda"
            settings = replace(settings, rank=self.trainer.global_rank, world=self.trainer.world_size)
        batches = Batches(self.source, settings, self.stop, self.embedded, self.texts)
        beside = None if self.classes is None else self.classes.batches(settings, self.stop)
        return DataLoader(
            batches if beside is None else Beside(batches, beside),
            batch_size=None,
            sampler=range(self.start, self.stop),
            num_workers=self.num_workers,
            pin_memory=on_gpu,
            persistent_workers=self.num_workers > 0,
            prefetch_factor=4 if self.num_workers > 0 else None,
        )
