"""Data for a training that makes its batches itself, from the number of the forward pass."""

from __future__ import annotations

import lightning
from torch.utils.data import DataLoader, Dataset

from fdlab.data.batches import Batch


class NumberedPasses(lightning.LightningDataModule):
    """Batches {"number": n}, from `start` up to `stop`."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.stop = 0, 0

    def train_dataloader(self) -> DataLoader[Batch]:
        """One pass over what is left of the run."""
        return DataLoader(_Numbers(), batch_size=None, sampler=range(self.start, self.stop))


class _Numbers(Dataset[Batch]):
    def __getitem__(self, number: int) -> Batch:
        return {"number": number}
