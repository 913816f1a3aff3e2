"""Encode a data set once: latents, masks, references and tokens into one folder of the cache, in parts that
several processes make at once, each in resumable chunks.

A chunk has fixed bounds, so interrupted runs, several processes and a whole run write the same bytes; the
folder's name hashes all that its content depends on (what is in the pictures' files, not where they lie), so
a second run finds it and a changed picture, encoder or tokenizer makes another.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fdlab.caches.contents import contents
from fdlab.caches.parts import facts_of, finish, is_sound, make_parts, place
from fdlab.caches.plan import PART, Picture, Plan, make_plan, read_picture
from fdlab.caches.prepared import Prepared, Rows
from fdlab.data import sides
from fdlab.data.entry import Crop, FaceReader, Shape
from fdlab.data.folder import Folder, check_complete, folder_of
from fdlab.data.latents import encode_images, weights_hash
from fdlab.data.sample import CorruptFile
from fdlab.data.store import ArrayFolder
from fdlab.errors import UserError
from fdlab.files import write_json
from fdlab.lock import exclusive
from fdlab.progress import Progress, bar
from fdlab.transforms.framing import Size

VERSION = 2
CHUNK = 32
"""Pictures a chunk, and most rows encoded at once."""
THREADS = 4


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
    read = contents(source, ids, cache, show)
    parts = [VERSION, split, mirror, asdict(shape), read.digest, weights_hash(vae)]
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

    names = [arrays] * (-(-len(ids) // PART))

    def make() -> None:
        asked = (2 if mirror else 1, skip_corrupt, labels, crop, reader, sizes)
        known = make_plan(source, ids, tokenizer, shape, *asked)
        work = _Work(known, folder, vae.to(device).eval(), device, skip_corrupt)
        with bar("encode pictures", len(ids), show=show) as progress:
            make_parts(
                folder,
                names,
                lambda number: _fill(work, number, progress),
                lambda number: progress.found(len(known.part(number))),
            )
        with exclusive(folder.with_name(f"{folder.name}.state") / "rows.lock", is_brief=True):
            write_json(folder / "rows.json", asdict(_rows(work, len(names))))

    if not (_fits(folder) and all(is_sound(folder, number, arrays) for number in range(len(names)))):
        make()
    prepared = Prepared(folder)
    if prepared.rows.skipped and not skip_corrupt:
        # An earlier run was told to skip these; this one was not.
        raise CorruptFile(next(iter(prepared.rows.skipped.values())))
    if not prepared.usable:
        raise UserError(f"data folder '{root}' holds no readable sample.")
    return prepared


def _fits(folder: Path) -> bool:
    """Whether there are rows, and their arrays belong together."""
    if not (folder / "rows.json").is_file():
        return False
    try:
        Prepared(folder)
    except CorruptFile as error:
        print(f"{error} It is made anew.", file=sys.stderr, flush=True)
        return False
    return True


@dataclass(frozen=True)
class _Work:
    """What a data set is encoded by."""

    plan: Plan
    folder: Path
    vae: Any
    device: torch.device | str
    skip_corrupt: bool


def _rows(work: _Work, parts: int) -> Rows:
    """What rows.json says, where all parts are made."""
    plan, skipped = work.plan, dict(work.plan.skipped)
    for number in range(parts):
        skipped |= facts_of(work.folder, number)["skipped"]
    ordered = {id: skipped[id] for id in plan.ids if id in skipped}
    return Rows(plan.ids, plan.views, plan.first, plan.identities, ordered, PART, plan.grids)


def _fill(work: _Work, number: int, progress: Progress) -> None:
    """Make a part."""
    plan, pictures = work.plan, work.plan.part(number)
    out = ArrayFolder(place(work.folder, number), plan.layout(number))
    done, skipped = int(out.state.get("done", pictures.start)), dict(out.state.get("skipped", {}))
    progress.found(done - pictures.start)
    with ThreadPoolExecutor(THREADS) as pool:
        while done < pictures.stop:
            chunk = range(done, min(done + CHUNK, pictures.stop))
            known = plan.skipped | skipped
            kept = [p for p in chunk if plan.ids[p] not in known]
            read = list(pool.map(partial(read_picture, plan, skip_corrupt=work.skip_corrupt), kept))
            found = dict(zip(kept, read, strict=True))
            skipped |= {plan.ids[p]: str(why) for p, why in found.items() if isinstance(why, CorruptFile)}
            _write(work, number, out, {p: shown for p, shown in found.items() if isinstance(shown, Picture)})
            done = chunk.stop
            progress.advance(len(chunk))
            out.commit(done=done, skipped=skipped)
    finish(work.folder, number, out, {"skipped": skipped})


def _write(work: _Work, number: int, out: ArrayFolder, pictures: Mapping[int, Picture]) -> None:
    """Encode some pictures and write them to their place in a part."""
    plan, start = work.plan, work.plan.part(number).start
    first, views = plan.window(start, start)[0], plan.views
    rows: list[int] = []
    for p, picture in pictures.items():
        own = slice((p - start) * views, (p - start + 1) * views)
        begin, end = (at - first for at in plan.window(p, p + 1))
        out.arrays["input_ids"][own] = plan.input_ids_PVL[p]
        out.arrays["positions"][begin:end] = plan.positions[p]
        for name, array in picture.arrays.items():
            out.arrays[name][begin:end] = _padded(array, plan.cells) if name == "masks" else array
        if picture.references_NRR4 is not None:
            out.arrays["references"][begin // views : end // views] = picture.references_NRR4
        rows += range(own.start, own.stop)
    images = [view.image_HW3 for picture in pictures.values() for view in picture.views]
    for rows_B, images_BHW3 in _batches(rows, images):
        z_BCHW = encode_images(work.vae, images_BHW3, work.device)
        out.arrays["latents"][rows_B] = _padded(z_BCHW, plan.cells)


def _batches(rows: list[int], images: list[np.ndarray]) -> Iterator[tuple[list[int], np.ndarray]]:
    """Rows with their images stacked, those of one shape at a time."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images):
        by_shape.setdefault(image.shape, []).append(index)
    for _, alike in sorted(by_shape.items()):
        for start in range(0, len(alike), CHUNK):
            chosen = alike[start : start + CHUNK]
            yield [rows[index] for index in chosen], np.stack([images[index] for index in chosen])


def _padded(array: np.ndarray, cells: Size) -> np.ndarray:
    """What lies on a grid, as an array of so many cells has it."""
    if array.shape[-2:] == cells:
        return array
    # Not by -1, which of no subjects at all is not known.
    flat = array.reshape(*array.shape[:-2], array.shape[-2] * array.shape[-1])
    wide = np.zeros((*flat.shape[:-1], cells[0] * cells[1]), array.dtype)
    wide[..., : flat.shape[-1]] = flat
    return wide.reshape(*flat.shape[:-1], *cells)
