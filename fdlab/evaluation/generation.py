"""Drawing what a benchmark asks for: one job per (subjects, prompt, index), each with its seed and its PNG.

A picture depends on its job alone, but for rounding: how sums are ordered depends on what is drawn together.
So batches have a fixed composition, counted from the first job, and one in which anything is missing is drawn
again whole: an interruption changes no bit. Another batch size or device may change a pixel by 1/255.
Pictures are written whole, and only those that are missing. B batch, H W pixels, 3 RGB.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fdlab.benchmarks.jobs import Job
from fdlab.data.pictures import write_png
from fdlab.errors import UserError
from fdlab.files import fingerprint, write_json
from fdlab.foreign import read_json
from fdlab.lock import exclusive
from fdlab.pipeline.batches import unfinished
from fdlab.progress import bar

STAMP = "generation.json"


Method = Callable[[Sequence[Job]], np.ndarray]
"""Draws a batch of jobs: images_BHW3 uint8. A picture must not depend on its batch."""


def generate(
    todo: Sequence[Job],
    method: Method,
    folder: Path,
    settings: Mapping[str, Any] | None = None,
    batch_size: int = 8,
    description: str = "images",
    show: bool = True,
) -> list[Path]:
    """Draw every job's PNG into `folder` and return the paths in the jobs' order.

    Pictures of an earlier call with the same `settings` are kept; those of other settings are drawn again.
    """
    _stamp(folder, dict(settings or {}))
    missing = {job.file for job in todo if not (folder / job.file).is_file()}
    with bar(description, len(todo), done=len(todo) - len(missing), show=show) as progress:
        for batch in unfinished(todo, batch_size, lambda job: job.file in missing):
            images = np.asarray(method(batch))
            if (
                images.dtype != np.uint8
                or images.ndim != 4
                or images.shape[0] != len(batch)
                or images.shape[-1] != 3
            ):
                raise TypeError(
                    f"a method must return uint8 ({len(batch)}, H, W, 3), not {images.dtype} {images.shape}"
                )
            new = [(job, image) for job, image in zip(batch, images, strict=True) if job.file in missing]
            for job, image in new:
                write_png(
                    folder / job.file,
                    image,
                    {"Software": "fdlab (generated image)", "prompt": job.text, "seed": str(job.seed)},
                )
            progress.advance(len(new))
    return [folder / job.file for job in todo]


def _stamp(folder: Path, settings: dict[str, Any]) -> None:
    """Mark a folder with what its pictures are drawn by; pictures of other settings go."""
    path, expected = folder / STAMP, fingerprint(settings)
    if same_stamp(path, expected):
        # A complete folder is only read, where that is all that is allowed too.
        return
    # Of several processes that draw into one folder, one clears it.
    with exclusive(folder / ".lock", is_brief=True):
        if same_stamp(path, expected):
            return
        # Old pictures go before the new stamp comes: a kill in between leaves nothing that lies.
        path.unlink(missing_ok=True)
        for picture in folder.glob("*.png"):
            picture.unlink()
        stamp = {"fingerprint": expected, "settings": settings}
        write_json(path, json.loads(json.dumps(stamp, default=str)))


def same_stamp(path: Path, expected: str) -> bool:
    """Whether a folder's stamp carries the fingerprint expected."""
    try:
        found = read_json(path, "stamp")
    except UserError:
        return False
    return isinstance(found, dict) and found.get("fingerprint") == expected
