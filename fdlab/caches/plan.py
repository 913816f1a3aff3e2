"""What is known of a prepared data set before any picture is read; and a picture in all its views.

Axes: P pictures, V views, L tokens, S subjects, N subjects of a view, R side of a reference, 4 RGB and alpha.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fdlab.data.annotation import Annotation
from fdlab.data.captions import Encoded
from fdlab.data.entry import Crop, FaceReader, Shape, View, caption_tokens, cut_subject, read_checked, view
from fdlab.data.folder import Folder, is_rendered
from fdlab.data.sample import CorruptFile, ShownSubject
from fdlab.data.store import Layout
from fdlab.transforms.framing import Size

PART = 1024
"""Pictures a part of the arrays."""


@dataclass(frozen=True)
class Plan:
    """What `make_plan` finds."""

    folder: Folder
    ids: list[str]
    shape: Shape
    views: int
    rendered: bool
    annotations: list[Annotation]
    subjects: list[tuple[ShownSubject, ...]]
    input_ids_PVL: np.ndarray
    positions: list[list[int]]
    """Of each picture's subjects, view after view."""
    skipped: dict[str, str]
    crop: Crop | None
    reader: FaceReader | None
    sizes: Sequence[Size] | None

    @cached_property
    def grids(self) -> list[list[int]] | None:
        """Of each picture, in latents; None: all are squares."""
        return None if self.sizes is None else [list(self.shape.grid(size)) for size in self.sizes]

    @cached_property
    def cells(self) -> Size:
        """Height and width of the arrays."""
        if self.grids is None:
            return self.shape.grid()
        return max(height * width for height, width in self.grids), 1

    @cached_property
    def first(self) -> list[int]:
        """Where each row's subjects begin, and where the last row's end."""
        counts = [len(subjects) for subjects in self.subjects for _ in range(self.views)]
        return [0, *np.cumsum(counts).tolist()]

    @property
    def identities(self) -> list[int | None]:
        """Of each row's subjects."""
        return [s.identity for kept in self.subjects for _ in range(self.views) for s in kept]

    def part(self, number: int) -> range:
        """Pictures of a part."""
        return range(number * PART, min((number + 1) * PART, len(self.ids)))

    def layout(self, number: int) -> Layout:
        """The arrays of a part. A memory map cannot be empty, even where no picture has a subject."""
        pictures, shape = self.part(number), self.shape
        rows, start, end = len(pictures) * self.views, *self.window(pictures.start, pictures.stop)
        subjects, people = max(1, end - start), max(1, (end - start) // self.views)
        layout: dict[str, tuple[tuple[int, ...], type]] = {
            "input_ids": ((rows, self.input_ids_PVL.shape[-1]), np.int32),
            "positions": ((subjects,), np.int16),
            "latents": ((rows, shape.latent_CHW[0], *self.cells), np.float16),
            "masks": ((subjects, *self.cells), np.uint8),
        }
        if shape.reference_size is not None:
            layout["references"] = ((people, shape.reference_size, shape.reference_size, 4), np.uint8)
        if self.reader is not None:
            layout["landmarks"] = ((subjects, 5, 2), np.float32)
            layout["embeddings"] = ((subjects, self.reader.dim), np.float32)
        return layout

    def window(self, start: int, stop: int) -> tuple[int, int]:
        """Where the subjects of some pictures begin and end, in all their views."""
        return self.first[start * self.views], self.first[stop * self.views]


@dataclass(frozen=True)
class Picture:
    """One picture in all its views, its subjects view after view."""

    views: list[View]
    references_NRR4: np.ndarray | None
    """Of the view that is not mirrored."""

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Array's name to its part for this picture's subjects."""
        found = {"masks": np.concatenate([view.masks_NHW for view in self.views])}
        faces = [view.faces for view in self.views if view.faces is not None]
        if faces:
            found["landmarks"] = np.concatenate([some.landmarks_N52 for some in faces])
            found["embeddings"] = np.concatenate([some.embedding_ND for some in faces])
        return found


def make_plan(
    folder: Folder,
    ids: list[str],
    tokenizer: Any,
    shape: Shape,
    views: int,
    skip_corrupt: bool,
    labels: Collection[str] | None,
    crop: Crop | None,
    reader: FaceReader | None,
    sizes: Sequence[Size] | None,
) -> Plan:
    """Read the captions of a data set. Raises: CorruptFile, unless those are skipped."""
    annotations, subjects, input_ids, positions = [], [], [], []
    skipped: dict[str, str] = {}
    for id in ids:
        try:
            annotation = folder.annotation(id, labels)
            encoded, kept = _tokens(tokenizer, annotation, shape, views)
        except CorruptFile as error:
            if not skip_corrupt:
                raise
            skipped[id], annotation = str(error), Annotation(id, "", ())
            encoded, kept = _tokens(tokenizer, annotation, shape, views)
        annotations.append(annotation)
        subjects.append(kept)
        input_ids.append(np.stack([view.input_ids_L for view in encoded]))
        positions.append([position for view in encoded for position in view.positions])
    return Plan(
        folder,
        ids,
        shape,
        views,
        is_rendered(folder.root),
        annotations,
        subjects,
        np.stack(input_ids),
        positions,
        skipped,
        crop,
        reader,
        sizes,
    )


def _tokens(
    tokenizer: Any, annotation: Annotation, shape: Shape, views: int
) -> tuple[list[Encoded], tuple[ShownSubject, ...]]:
    """A caption for each view, and the subjects, which are the same in all. Raises: CorruptFile."""
    found = [caption_tokens(tokenizer, annotation, shape, bool(view)) for view in range(views)]
    return [encoded for encoded, _ in found], found[0][1]


def read_picture(plan: Plan, p: int, skip_corrupt: bool) -> Picture | CorruptFile:
    """Read a picture of the plan in all its views; where it cannot be read and that is allowed, why."""
    subjects, side = plan.subjects[p], plan.shape.reference_size
    references = None
    try:
        sample = read_checked(plan.folder, plan.annotations[p], plan.rendered)
        if side is not None and subjects:
            references = np.stack([cut_subject(sample, s, side, False, plan.crop) for s in subjects])
    except CorruptFile as error:
        if not skip_corrupt:
            raise
        return error
    size = None if plan.sizes is None else plan.sizes[p]
    views = [view(sample, subjects, plan.shape, bool(n), plan.reader, size=size) for n in range(plan.views)]
    return Picture(views, references)
