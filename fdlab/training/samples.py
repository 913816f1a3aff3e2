"""A small picture of how far the model is: fixed people, fixed prompts, fixed noise, drawn with the averaged
weights.

Axes: B batch, H W pixels, 3 RGB, R side of a reference.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fdlab.data.captions import mark
from fdlab.data.entry import Source
from fdlab.data.folder import Folder
from fdlab.data.sample import CorruptFile
from fdlab.diffusion.settings import SamplerSettings
from fdlab.engine.ranks import ALONE, Ranks
from fdlab.files import whole
from fdlab.pipeline.artist import Artist
from fdlab.pipeline.inputs import Scene
from fdlab.randomness import derive, numpy_rng
from fdlab.transforms.framing import resize
from fdlab.transforms.inputs import CLIP_MEAN, CLIP_STD
from fdlab.transforms.references import composite

NEW_PLACE = "on a beach"
"""What the second picture of a subject asks for, beside its own caption."""


@dataclass(frozen=True)
class Case:
    """One picture of a grid: a prompt with markers and its subjects' references (3RR each, as the encoder
    takes them)."""

    prompt: str
    references: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Grid:
    """Rows of cases; a row shares its subjects, which are shown at its left."""

    rows: Sequence[Sequence[Case]]
    settings: SamplerSettings
    seed: int = 0


def cases_from_data(
    source: Source,
    folder: Folder,
    num: int,
    seed: int,
    labels: Collection[str] | None = None,
    skip_corrupt: bool = False,
) -> list[list[Case]]:
    """The first `num` pictures that have subjects: their own captions, and their first subject in another
    place. `labels`: what counts as a subject (None: everything). Raises: CorruptFile, unless those are
    skipped."""
    rng = numpy_rng(seed, "grid references")
    rows: list[list[Case]] = []
    seen: set[str] = set()
    for row in source.usable:
        try:
            entry = source.entry(row)
        except CorruptFile:
            if not skip_corrupt:
                raise
            continue
        if not entry.keys_N or entry.id in seen:
            continue
        seen.add(entry.id)
        references = tuple(composite(source.reference(key), "grey", rng) for key in entry.keys_N)
        annotation = folder.annotation(entry.id, labels)
        ends = [subject.end for subject in annotation.subjects]
        if len(ends) != len(references):
            continue
        noun = annotation.caption[: ends[0]].split()[-1]
        prompts = [mark(annotation.caption, ends), f"a {noun} <|image|> {NEW_PLACE}"]
        rows.append([Case(prompts[0], references), Case(prompts[1], references[:1])])
        if len(rows) == num:
            break
    return rows


def captions_from_data(source: Source, folder: Folder, num: int) -> list[list[Case]]:
    """The captions of the first pictures, two a row, without subjects."""
    ids = list(dict.fromkeys(source.entry(row).id for row in source.usable[: 4 * num]))[: 2 * num]
    cases = [Case(folder.annotation(id).caption) for id in ids]
    return [cases[i : i + 2] for i in range(0, len(cases), 2)]


def draw(artist: Artist, grid: Grid, ranks: Ranks = ALONE) -> np.ndarray:
    """Draw a grid (HW3 uint8): the references of each row, then its pictures. Touches no global random
    stream. Of `ranks` each draws a part of the pictures, and all get the whole."""
    scenes = [
        Scene(case.prompt, derive(grid.seed, "grid", index), case.references)
        for index, case in enumerate(case for row in grid.rows for case in row)
    ]
    mine = ranks.block(scenes)
    shares = ranks.gathered(list(artist(mine)) if mine else [])
    return _lay_out(grid, np.stack([picture for share in shares for picture in share]))


def write(path: Path, grid_HW3: np.ndarray) -> None:
    """Write a grid as PNG, whole or not at all."""
    from PIL import Image

    with whole(path) as temporary:
        Image.fromarray(grid_HW3).save(temporary, format="PNG")


def _lay_out(grid: Grid, pictures: np.ndarray) -> np.ndarray:
    """White between pictures; a row's references at its left, as many columns as the row with most needs."""
    size, gap = pictures.shape[1], 2
    shown = max((len(case.references) for row in grid.rows for case in row), default=0)
    columns = shown + max(len(row) for row in grid.rows)
    cell = size + gap
    canvas = np.full((cell * len(grid.rows) - gap, cell * columns - gap, 3), 255, np.uint8)
    index = 0
    for y, row in enumerate(grid.rows):
        cells = [_reference_pixels(r, size) for r in max((case.references for case in row), key=len)]
        cells += [None] * (shown - len(cells))  # type: ignore[list-item]
        cells += list(pictures[index : index + len(row)])
        index += len(row)
        for x, picture in enumerate(cells):
            if picture is not None:
                canvas[y * cell : y * cell + size, x * cell : x * cell + size] = picture
    return canvas


def _reference_pixels(reference_3RR: Tensor, size: int) -> np.ndarray:
    mean, std = torch.tensor(CLIP_MEAN), torch.tensor(CLIP_STD)
    image_RR3 = reference_3RR.permute(1, 2, 0) * std + mean
    return resize((image_RR3.clamp(0, 1) * 255).round().byte().numpy(), size)
