"""Encode a data set once: latents, masks, references and tokens into one folder of the cache, in resumable
chunks.

A chunk has fixed bounds, so an interrupted run and a whole one write the same bytes; the folder's name hashes
all that its content depends on, so a second run finds it and a changed picture, encoder or tokenizer makes
another.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fdlab.data import sides
from fdlab.data.annotation import Annotation
from fdlab.data.captions import Encoded
from fdlab.data.entry import Crop, FaceReader, Shape, View, caption_tokens, cut_subject, read_checked, view
from fdlab.data.folder import Folder, check_complete, fingerprint, folder_of, is_rendered
from fdlab.data.latents import encode_images, weights_hash
from fdlab.data.prepared import Prepared, Rows
from fdlab.data.sample import CorruptFile, ShownSubject
from fdlab.data.store import ArrayFolder, is_whole, make_once
from fdlab.errors import UserError
from fdlab.progress import bar
from fdlab.transforms.framing import Size

VERSION = 1
CHUNK = 32
"""Pictures a chunk, and most rows encoded at once."""


def prepare(
    root: Path | Folder,
    cache: Path,
    vae: Any,
    tokenizer: Any,
    shape: Shape,
    split: str = "all",
    mirror: bool = False,
    skip_corrupt: bool = False,
    device: torch.device | str = "cpu",
    show: bool = True,
    labels: Collection[str] | None = None,
    crop: Crop | None = None,
    reader: FaceReader | None = None,
    sizes: Sequence[Size] | None = None,
) -> Prepared:
    """Make (or find) the prepared form of a data folder and open it. What is there and whole is not written
    to; what is damaged is made anew. A path is a folder in FastComposer's layout; `sizes`: pixels that each
    picture is shown at, where not all are squares.

    Raises UserError for a folder that is missing or half written, a sample that cannot be used (unless
    `skip_corrupt`), and when the disk is full.
    """
    source = folder_of(root)
    check_complete(source)
    root, ids = source.root, source.ids(split)
    parts = [VERSION, split, mirror, asdict(shape), fingerprint(source, ids), weights_hash(vae)]
    parts += [float(vae.config.scaling_factor), getattr(vae.config, "shift_factor", None)]
    parts += [tokenizer.model_max_length, sorted(tokenizer.get_vocab().items())]
    parts += [{"mirrored captions": sides.VERSION}] if mirror else []
    parts += [] if labels is None else [sorted(labels)]
    parts += [] if crop is None or shape.reference_size is None else [{"reference crop": crop.name}]
    parts += [] if reader is None else [{"faces": reader.name}]
    parts += [] if sizes is None else [{"sizes": list(sizes)}]
    key = hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).hexdigest()
    folder = Path(cache) / "prepared" / f"{root.name}-{key}"
    arrays = ["input_ids", "positions", "latents", "masks"]
    arrays += ["references"] if shape.reference_size is not None else []
    arrays += ["landmarks", "embeddings"] if reader is not None else []

    def make() -> None:
        asked = (2 if mirror else 1, skip_corrupt, labels, crop, reader, sizes)
        plan = _plan(source, ids, tokenizer, shape, *asked)
        _fill(plan, folder, vae, device, skip_corrupt, show)

    make_once(folder, lambda: is_whole(folder, "rows.json", arrays) and _fits(folder), make)
    prepared = Prepared(folder)
    if prepared.rows.skipped and not skip_corrupt:
        # An earlier run was told to skip these; this one was not.
        raise CorruptFile(next(iter(prepared.rows.skipped.values())))
    if not prepared.usable:
        raise UserError(f"data folder '{root}' holds no readable sample.")
    return prepared


def _fits(folder: Path) -> bool:
    """Whether arrays that are whole belong together."""
    try:
        Prepared(folder)
    except CorruptFile as error:
        print(f"{error} It is made anew.", file=sys.stderr, flush=True)
        return False
    return True


@dataclass(frozen=True)
class _Plan:
    """What is known before any picture is read."""

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

    @property
    def grids(self) -> list[list[int]] | None:
        """Of each picture, in latents; None: all are squares."""
        return None if self.sizes is None else [list(self.shape.grid(size)) for size in self.sizes]

    @property
    def cells(self) -> Size:
        """Height and width of the arrays."""
        if self.grids is None:
            return self.shape.grid()
        return max(height * width for height, width in self.grids), 1

    @property
    def first(self) -> list[int]:
        """Where each row's subjects begin, and where the last row's end."""
        counts = [len(subjects) for subjects in self.subjects for _ in range(self.views)]
        return [0, *np.cumsum(counts).tolist()]


@dataclass(frozen=True)
class _Picture:
    """One picture in all its views (V), its subjects view after view (S)."""

    views: list[View]
    references_SRR4: np.ndarray | None

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Array's name to its part for this picture's subjects."""
        found = {"masks": np.concatenate([view.masks_NHW for view in self.views])}
        if self.references_SRR4 is not None:
            found["references"] = self.references_SRR4
        faces = [view.faces for view in self.views if view.faces is not None]
        if faces:
            found["landmarks"] = np.concatenate([some.landmarks_N52 for some in faces])
            found["embeddings"] = np.concatenate([some.embedding_ND for some in faces])
        return found


def _plan(
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
) -> _Plan:
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
    return _Plan(
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


def _fill(
    plan: _Plan, folder: Path, vae: Any, device: torch.device | str, skip_corrupt: bool, show: bool
) -> None:
    first, rows, shape = plan.first, len(plan.ids) * plan.views, plan.shape
    # A memory map cannot be empty, even where no picture has a subject.
    subjects = max(1, first[-1])
    layout: dict[str, tuple[tuple[int, ...], type]] = {
        "input_ids": ((rows, plan.input_ids_PVL.shape[-1]), np.int32),
        "positions": ((subjects,), np.int16),
        "latents": ((rows, shape.latent_CHW[0], *plan.cells), np.float16),
        "masks": ((subjects, *plan.cells), np.uint8),
    }
    if shape.reference_size is not None:
        layout["references"] = ((subjects, shape.reference_size, shape.reference_size, 4), np.uint8)
    if plan.reader is not None:
        layout["landmarks"] = ((subjects, 5, 2), np.float32)
        layout["embeddings"] = ((subjects, plan.reader.dim), np.float32)
    out = ArrayFolder(folder, layout)
    done, skipped = int(out.state.get("done", 0)), plan.skipped | out.state.get("skipped", {})
    vae = vae.to(device).eval()
    with (
        bar("encode pictures", len(plan.ids), done=done, show=show) as progress,
        ThreadPoolExecutor(4) as pool,
    ):
        while done < len(plan.ids):
            chunk = [p for p in range(done, min(done + CHUNK, len(plan.ids))) if plan.ids[p] not in skipped]
            kept: list[int] = []
            images: list[np.ndarray] = []
            for p, picture in zip(
                chunk, pool.map(lambda p: _read(plan, p, skip_corrupt), chunk), strict=True
            ):
                if isinstance(picture, CorruptFile):
                    skipped[plan.ids[p]] = str(picture)
                    continue
                window = slice(first[p * plan.views], first[(p + 1) * plan.views])
                out.arrays["input_ids"][p * plan.views : (p + 1) * plan.views] = plan.input_ids_PVL[p]
                out.arrays["positions"][window] = plan.positions[p]
                for name, array in picture.arrays.items():
                    out.arrays[name][window] = _padded(array, plan.cells) if name == "masks" else array
                kept += range(p * plan.views, (p + 1) * plan.views)
                images += [view.image_HW3 for view in picture.views]
            for rows_B, images_BHW3 in _batches(kept, images):
                z_BCHW = encode_images(vae, images_BHW3, device)
                out.arrays["latents"][rows_B] = _padded(z_BCHW, plan.cells)
            finished = min(done + CHUNK, len(plan.ids))
            progress.advance(finished - done)
            done = finished
            out.commit(done=done, skipped=skipped)
    identities = [s.identity for kept in plan.subjects for _ in range(plan.views) for s in kept]
    rows_json = Rows(plan.ids, plan.views, first, identities, skipped, plan.grids)
    out.finish("rows.json", asdict(rows_json))


def _batches(rows: list[int], images: list[np.ndarray]) -> Iterator[tuple[list[int], np.ndarray]]:
    """Rows with their images stacked, those of one shape at a time."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        by_shape.setdefault(image.shape, []).append(place)
    for _, places in sorted(by_shape.items()):
        for start in range(0, len(places), CHUNK):
            chosen = places[start : start + CHUNK]
            yield [rows[place] for place in chosen], np.stack([images[place] for place in chosen])


def _padded(array: np.ndarray, cells: Size) -> np.ndarray:
    """What lies on a grid, as an array of so many cells has it."""
    if array.shape[-2:] == cells:
        return array
    flat = array.reshape(*array.shape[:-2], -1)
    wide = np.zeros((*flat.shape[:-1], cells[0] * cells[1]), array.dtype)
    wide[..., : flat.shape[-1]] = flat
    return wide.reshape(*flat.shape[:-1], *cells)


def _read(plan: _Plan, p: int, skip_corrupt: bool) -> _Picture | CorruptFile:
    subjects, side = plan.subjects[p], plan.shape.reference_size
    references = None
    try:
        sample = read_checked(plan.folder, plan.annotations[p], plan.rendered)
        if side is not None and subjects:
            views_S = [(bool(n), subject) for n in range(plan.views) for subject in subjects]
            references = np.stack([cut_subject(sample, s, side, v, plan.crop) for v, s in views_S])
    except CorruptFile as error:
        if not skip_corrupt:
            raise
        return error
    size = None if plan.sizes is None else plan.sizes[p]
    views = [view(sample, subjects, plan.shape, bool(n), plan.reader, size=size) for n in range(plan.views)]
    return _Picture(views, references)
