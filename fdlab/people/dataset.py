"""Many pictures on disk, in FastComposer's layout, on all cores, resumable.

root/image_ids.txt  image_ids_train.txt  image_ids_test.txt  dataset.json
root/<first 5 characters of id>/<id>.png|json|npy
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fdlab import files
from fdlab.errors import UserError, unknown
from fdlab.people import picture
from fdlab.randomness import numpy_rng

VERSION = 1
"""Of the renderer: raised when the same seed gives other bytes."""
HELD_OUT = 1_000_000
"""Identities from here on are benchmarks' alone; no dataset contains them."""
PICTURES_PER_IDENTITY = 8
TEST_EVERY = 50
"""One identity in this many goes to image_ids_test.txt."""
CHUNK = 16
Job = tuple[Path, str, int, int, int, int, int]
"""Root, mix, number of pictures, seed, size, first picture and the one after the last."""


def spec_of(mix: str, num: int, seed: int, index: int) -> picture.Spec:
    """The spec of one picture of a dataset: a function of its arguments alone."""
    identities = max(16, num // PICTURES_PER_IDENTITY)
    return picture.draw(picture.MIXES[mix], numpy_rng(seed, "picture", mix, index), identities)


def png_bytes(image: np.ndarray) -> bytes:
    """Encode uint8 pixels as PNG."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", compress_level=3)
    return stream.getvalue()


def boxes(segments_HW: np.ndarray, count: int) -> list[list[int] | None]:
    """x1, y1, x2, y2 (exclusive) of each person, None where nobody is seen."""
    found: list[list[int] | None] = []
    for k in range(1, count + 1):
        y, x = np.nonzero(segments_HW == k)
        found.append([int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1] if len(x) else None)
    return found


def write_one(root: Path, mix: str, num: int, seed: int, index: int, size: int) -> None:
    """Render picture `index` and write its three files, the JSON last."""
    name = f"{index:09d}"
    base = root / name[:5] / name
    if base.with_suffix(".json").exists():
        return
    spec = spec_of(mix, num, seed, index)
    made = picture.render(spec, size)
    text, ends = picture.describe(spec)
    people = enumerate(zip(ends, boxes(made.segments_HW, len(ends)), strict=True), 1)
    segments = [
        {"id": k, "coco_label": "person", "end": end, "bbox": box}
        for k, (end, box) in people
        if box is not None
    ]
    files.write_bytes(base.with_suffix(".png"), png_bytes(made.image_HW3), flush=False)
    stream = io.BytesIO()
    np.save(stream, made.segments_HW)
    files.write_bytes(base.with_suffix(".npy"), stream.getvalue(), flush=False)
    record = {"caption": text, "segments": segments, "truth": picture.truth(spec)}
    files.write_text(base.with_suffix(".json"), json.dumps(record), flush=False)


def ignore_interrupts() -> None:
    """In a worker: leave Ctrl-C to the process that waits, which then ends the workers quietly."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _write_chunk(job: Job) -> int:
    root, mix, num, seed, size, first, last = job
    for index in range(first, last):
        write_one(root, mix, num, seed, index, size)
    return last - first


def _chunks(root: Path, mix: str, num: int, seed: int, size: int) -> Iterator[Job]:
    for first in range(0, num, CHUNK):
        yield root, mix, num, seed, size, first, min(first + CHUNK, num)


def facts(mix: str, num: int, seed: int, size: int) -> dict[str, Any]:
    """What dataset.json says."""
    return {"kind": "people", "mix": mix, "num": num, "seed": seed, "size": size, "version": VERSION}


def render(
    root: Path | str, mix: str, num: int, seed: int, size: int = 128, workers: int = 0, progress: bool = True
) -> None:
    """Render a dataset into `root`, going on where an earlier call stopped.

    workers: processes; 0 takes every core. The bytes do not depend on it. Raises UserError for an unknown
    mix, or where `root` already holds another dataset.
    """
    root = Path(root)
    if mix not in picture.MIXES:
        raise unknown("mix of people", mix, picture.MIXES)
    wanted, made = facts(mix, num, seed, size), root / "dataset.json"
    plan = root / "plan.json"
    for path in (made, plan):
        if path.exists() and json.loads(path.read_text()) != wanted:
            held = path.read_text().strip()
            raise UserError(f"'{root}' holds another dataset ({held}); choose another folder.")
    if made.exists():
        return
    files.write_json(plan, wanted)
    jobs = list(_chunks(root, mix, num, seed, size))
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    if workers > 1:
        # A forked worker would inherit locks of torch's threads; a spawned one imports what it needs.
        with multiprocessing.get_context("spawn").Pool(workers, ignore_interrupts) as pool:
            _drain(pool.imap_unordered(_write_chunk, jobs), num, progress)
    else:
        _drain(map(_write_chunk, jobs), num, progress)
    _write_splits(root, num, mix, seed)
    files.flush_all()
    files.write_json(made, wanted)
    plan.unlink()


def _drain(done: Iterator[int], num: int, progress: bool) -> None:
    if not progress:
        for _ in done:
            pass
        return
    from fdlab.progress import track

    for _ in track((1 for n in done for _ in range(n)), description="rendering people", total=num):
        pass


def _write_splits(root: Path, num: int, mix: str, seed: int) -> None:
    train: list[str] = []
    test: list[str] = []
    for index in range(num):
        people = spec_of(mix, num, seed, index).people
        held = any(number % TEST_EVERY == TEST_EVERY - 1 for number, _ in people)
        (test if held else train).append(f"{index:09d}")
    files.write_text(root / "image_ids.txt", "".join(f"{i:09d}\n" for i in range(num)))
    files.write_text(root / "image_ids_train.txt", "".join(f"{name}\n" for name in train))
    files.write_text(root / "image_ids_test.txt", "".join(f"{name}\n" for name in test))
