"""Rows to batches: a map from step to batch without any state, so that workers and restarts change nothing.

Axes: B batch, C channels, H W latents or pixels, L tokens, N subjects (padded to `max_subjects`), E
width of an embedding, 3 RGB.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fdlab.data.entry import Entry, Source
from fdlab.data.order import grouped_rows
from fdlab.data.sample import CorruptFile
from fdlab.randomness import numpy_rng
from fdlab.transforms.augment import Augment, augmented
from fdlab.transforms.inputs import to_model
from fdlab.transforms.references import Background, composite

Batch = dict[str, Any]
Reference = Literal["own", "other", "mixed"]
REFERENCES: tuple[str, ...] = ("own", "other", "mixed")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchSettings:
    """How rows become batches."""

    seed: int
    batch_size: int
    max_subjects: int
    reference_size: int | None
    """Pixels a side of references; None: none are made."""
    background: Background = "noise"
    reference: Reference = "own"
    """Which picture a subject's reference is cut from: its own (as released), another of the same person (its
    own where none is known), or either by a coin."""
    own_share: float = 0.5
    """How often that coin says its own."""
    augment: Augment = field(default_factory=Augment)
    """How references are changed, anew each time."""
    skip_corrupt: bool = False
    rank: int = 0
    world: int = 1


class Embedded(Protocol):
    """References' embeddings by the keys of a `Source`, made once."""

    @property
    def width(self) -> int:
        """Of an embedding."""

    def __getitem__(self, key: int) -> np.ndarray:
        """One of them."""


class Texts(Protocol):
    """What a text encoder makes of captions, once."""

    null_LD: np.ndarray
    """Of the empty one."""

    def __getitem__(self, input_ids_L: np.ndarray) -> np.ndarray:
        """LD of a caption's ids."""


class Batches(Dataset[Batch]):
    """Item s is the batch of forward pass s: a pure function of (seed, s), of which each rank makes its part.
    With `embedded`, references come as their embeddings, and with `texts` captions do as well."""

    def __init__(
        self,
        source: Source,
        settings: BatchSettings,
        num_batches: int,
        embedded: Embedded | None = None,
        texts: Texts | None = None,
    ) -> None:
        self.source, self.settings, self.num_batches = source, settings, num_batches
        self.embedded, self.texts = embedded, texts
        self._told: set[str] = set()
        """What this process has said of broken files."""

    def __len__(self) -> int:
        return self.num_batches

    def __getitem__(self, step: int) -> Batch:
        s, groups = self.settings, self.source.groups
        first = (step * s.world + s.rank) * s.batch_size
        counts = [len(group) for group in groups]
        group, chosen = grouped_rows(s.seed, counts, s.batch_size, step, s.rank, s.world)
        drawn = [self._entry(groups[group], row, place) for place, row in enumerate(chosen, first)]
        entries = [self._some_subjects(entry, place) for place, entry in enumerate(drawn, first)]
        batch = collate(entries, s.max_subjects)
        if self.texts is not None:
            text_BLD = np.stack([self.texts[entry.input_ids_L] for entry in entries])
            batch["text_BLD"] = torch.from_numpy(text_BLD).float()
            batch["null_LD"] = torch.from_numpy(self.texts.null_LD).float()
        if s.reference_size is not None:
            # Each sample's own, so that it is shown alike however many processes share the stream.
            rngs = [numpy_rng(s.seed, "references", first + b) for b in range(len(entries))]
            if self.embedded is None:
                batch["references_BN3HW"] = self._references(entries, s.reference_size, rngs, first)
            else:
                batch["reference_BNE"] = self._embedded(entries, self.embedded, rngs)
        return batch

    def _entry(self, usable: list[int], row: int, place: int) -> Entry:
        """Read one of some usable rows; past a broken one (where that is allowed) the next one in its
        stead."""
        for offset in range(len(usable)):
            try:
                rng = numpy_rng(self.settings.seed, "crop", place)
                return self.source.entry(usable[(row + offset) % len(usable)], rng)
            except CorruptFile as error:
                if not self.settings.skip_corrupt:
                    raise
                if str(error) not in self._told:
                    self._told.add(str(error))
                    _log.warning("skipped: %s", error)
        raise CorruptFile("no sample of the data set (or of this shape of picture) can be read.")

    def _some_subjects(self, entry: Entry, place: int) -> Entry:
        """At most `max_subjects` of an entry's subjects, drawn anew at each place of the stream, as released
        (FastComposer draws anew at each read)."""
        most = self.settings.max_subjects
        if len(entry.keys_N) <= most:
            return entry
        rng = numpy_rng(self.settings.seed, "subjects", place)
        kept = sorted(rng.choice(len(entry.keys_N), most, replace=False).tolist())
        return replace(
            entry,
            positions_N=[entry.positions_N[n] for n in kept],
            masks_NHW=entry.masks_NHW[kept],
            keys_N=[entry.keys_N[n] for n in kept],
            faces=None if entry.faces is None else entry.faces.of(kept),
        )

    def _references(
        self, entries: list[Entry], size: int, rngs: list[np.random.Generator], first: int
    ) -> Tensor:
        seed = self.settings.seed
        references_BN3HW = torch.zeros(len(entries), self.settings.max_subjects, 3, size, size)
        for b, entry in enumerate(entries):
            for n, key in enumerate(entry.keys_N):
                rgba = self._cut_out(key, self._choose(key, rngs[b]))
                if self.settings.augment.changes:
                    rgba = augmented(rgba, self.settings.augment, numpy_rng(seed, "augment", first + b, n))
                references_BN3HW[b, n] = composite(rgba, self.settings.background, rngs[b])
        return references_BN3HW

    def _embedded(self, entries: list[Entry], by_key: Embedded, rngs: list[np.random.Generator]) -> Tensor:
        reference_BNE = torch.zeros(len(entries), self.settings.max_subjects, by_key.width)
        for b, entry in enumerate(entries):
            for n, key in enumerate(entry.keys_N):
                reference_BNE[b, n] = torch.from_numpy(by_key[self._choose(key, rngs[b])].copy())
        return reference_BNE

    def _cut_out(self, own: int, chosen: int) -> np.ndarray:
        try:
            return self.source.reference(chosen)
        except CorruptFile:
            # The other picture of the person is a broken one.
            if chosen == own or not self.settings.skip_corrupt:
                raise
            return self.source.reference(own)

    def _choose(self, key: int, rng: np.random.Generator) -> int:
        if self.settings.reference == "own":
            return key
        if self.settings.reference == "mixed" and rng.random() < self.settings.own_share:
            return key
        others = self.source.same_person(key)
        return others[int(rng.integers(len(others)))] if others else key


def collate(entries: list[Entry], max_subjects: int) -> Batch:
    """Stack entries: ids, latent_BCHW or image_B3HW, input_ids_BL, subject_token_BL, token_index_BN,
    subject_valid_BN, mask_BNHW (float 0/1, latent grid); where faces were looked for, landmark_BN52 (pixels,
    NaN where there is none) and face_BND."""
    ids_BL = torch.from_numpy(np.stack([entry.input_ids_L for entry in entries]))
    height, width = entries[0].masks_NHW.shape[-2:]
    batch: Batch = {
        "ids": [entry.id for entry in entries],
        "input_ids_BL": ids_BL,
        "subject_token_BL": torch.zeros(ids_BL.shape, dtype=torch.bool),
        "token_index_BN": torch.zeros(len(entries), max_subjects, dtype=torch.long),
        "subject_valid_BN": torch.zeros(len(entries), max_subjects, dtype=torch.bool),
        "mask_BNHW": torch.zeros(len(entries), max_subjects, height, width),
    }
    pictures = np.stack([entry.picture for entry in entries])
    if pictures.dtype == np.uint8:
        batch["image_B3HW"] = to_model(pictures)
    else:
        batch["latent_BCHW"] = torch.from_numpy(pictures)
    if entries[0].faces is not None:
        width = entries[0].faces.embedding_ND.shape[1]
        batch["landmark_BN52"] = torch.full((len(entries), max_subjects, 5, 2), torch.nan)
        batch["face_BND"] = torch.zeros(len(entries), max_subjects, width)
    for b, entry in enumerate(entries):
        if entry.faces is not None:
            num = len(entry.keys_N)
            batch["landmark_BN52"][b, :num] = torch.from_numpy(np.array(entry.faces.landmarks_N52))
            batch["face_BND"][b, :num] = torch.from_numpy(np.array(entry.faces.embedding_ND))
        for n, position in enumerate(entry.positions_N):
            batch["subject_token_BL"][b, position] = True
            batch["token_index_BN"][b, n] = position
            batch["subject_valid_BN"][b, n] = True
            batch["mask_BNHW"][b, n] = torch.from_numpy(entry.masks_NHW[n].astype(np.float32))
    return batch
