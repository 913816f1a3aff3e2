"""Batches with pictures of anybody beside those that a training is about, for prior preservation.

Axes: B batch, C channels, H W latents or pixels, L tokens, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch.utils.data import Dataset

from fdlab.data.batches import Batch, Batches, BatchSettings, Texts
from fdlab.data.entry import Source
from fdlab.randomness import derive

PREFIX = "class_"
KEPT = ("latent_BCHW", "image_B3HW", "input_ids_BL", "text_BLD", "null_LD")
"""What a picture without subjects is learnt by."""


@dataclass(frozen=True)
class Classes:
    """Pictures of anybody, by captions alone."""

    source: Source
    texts: Texts | None = None

    def batches(self, settings: BatchSettings, num_batches: int) -> Batches:
        """As many a step as there are others, in an order of their own."""
        seed = derive(settings.seed, "class pictures")
        asked = replace(settings, seed=seed, max_subjects=0, reference_size=None)
        return Batches(self.source, asked, num_batches, texts=self.texts)


class Beside(Dataset[Batch]):
    """Two maps from step to batch as one."""

    def __init__(self, batches: Batches, classes: Batches) -> None:
        self.batches, self.classes = batches, classes

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, step: int) -> Batch:
        return beside(self.batches[step], self.classes[step])


def beside(batch: Batch, classes: Batch) -> Batch:
    """A batch with another's pictures and captions in it, under `class_...`."""
    return batch | {PREFIX + key: classes[key] for key in KEPT if key in classes}


def class_part(batch: Batch) -> Batch:
    """What `beside` put in, as a batch of its own."""
    return {key.removeprefix(PREFIX): value for key, value in batch.items() if key.startswith(PREFIX)}
