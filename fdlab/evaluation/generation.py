"""Drawing what a benchmark asks for: one job per (subjects, prompt, index), each with its seed and its PNG.

A picture depends on its job alone, so batches, order and interruptions change nothing. Pictures are written
whole; a second call draws only what is missing. B batch, H W pixels, 3 RGB.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fdlab.data.store import exclusive
from fdlab.errors import UserError
from fdlab.evaluation.benchmarks import Benchmark, Prompt, Subject, group_id
from fdlab.files import whole, write_json
from fdlab.progress import bar
from fdlab.randomness import derive

STAMP = "generation.json"


@dataclass(frozen=True)
class Job:
    """One picture to be drawn."""

    subjects: tuple[Subject, ...]
    prompt: Prompt
    index: int
    seed: int
    text: str
    """The prompt with its noun and marker: `a woman <|image|> on a beach`."""

    @property
    def subject(self) -> Subject:
        """The first, or only, subject."""
        return self.subjects[0]

    @property
    def group(self) -> str:
        """The subjects' ids in one word."""
        return group_id(self.subjects)

    @property
    def id(self) -> str:
        return f"{self.group}-{self.prompt.id}-{self.index}"

    @property
    def file(self) -> str:
        return f"{self.id}.png"


Method = Callable[[Sequence[Job]], np.ndarray]
"""Draws a batch of jobs: images_BHW3 uint8. A picture must not depend on its batch."""


def jobs(benchmark: Benchmark) -> list[Job]:
    """All pictures of a benchmark in a fixed order; seed = f(benchmark seed, subjects, prompt, index)."""
    return [
        Job(
            subjects=group,
            prompt=prompt,
            index=index,
            seed=derive(benchmark.seed, "benchmark", *(s.id for s in group), prompt.id, index),
            text=prompt.of(group),
        )
        for group, prompt, index in benchmark.cells()
    ]


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Digest of what decides the pictures (weights, sampler, benchmark), to tell an earlier run's from stale
    ones."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


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
    missing = [job for job in todo if not (folder / job.file).is_file()]
    with bar(description, len(todo), done=len(todo) - len(missing), show=show) as progress:
        for start in range(0, len(missing), batch_size):
            batch = missing[start : start + batch_size]
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
            for job, image in zip(batch, images, strict=True):
                write_png(
                    folder / job.file,
                    image,
                    {"Software": "fdlab (generated image)", "prompt": job.text, "seed": str(job.seed)},
                )
            progress.advance(len(batch))
    return [folder / job.file for job in todo]


def share(todo: Sequence[Job], shard: str | None) -> list[Job]:
    """The jobs of shard "I/N", 0 <= I < N: every N-th, from the I-th; all of them for None.

    Shards together hold every job once. Raises: UserError.
    """
    if shard is None:
        return list(todo)
    index, slash, count = shard.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise UserError(f"shard={shard}: allowed are 0/N to (N-1)/N, such as 0/4.")
    return list(todo[int(index) :: int(count)])


def _stamp(folder: Path, settings: dict[str, Any]) -> None:
    """Mark a folder with what its pictures are drawn by; pictures of other settings go."""
    path, expected = folder / STAMP, fingerprint(settings)
    # Of several processes that draw into one folder, one clears it.
    with exclusive(folder / ".lock"):
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
    if not path.is_file():
        return False
    try:
        return bool(json.loads(path.read_text()).get("fingerprint") == expected)
    except ValueError:
        return False


def write_png(path: Path, image_HW3: np.ndarray, text: Mapping[str, str] | None = None) -> None:
    """Write a uint8 RGB picture as PNG with text chunks, whole or not at all."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, value in (text or {}).items():
        info.add_itxt(key, value)
    with whole(path) as temporary:
        Image.fromarray(image_HW3).save(temporary, format="PNG", pnginfo=info)


def read_image(path: Path, size: int | None = None) -> np.ndarray:
    """Read a picture as RGB uint8 (H, W, 3). UserError if it is missing, broken, not square at `size`, or not
    RGB."""
    from PIL import Image, UnidentifiedImageError

    if not path.is_file():
        raise UserError(f"image '{path}' is missing.")
    try:
        with Image.open(path) as opened:
            opened.load()
            if opened.mode != "RGB":
                raise UserError(f"image '{path}' has mode {opened.mode}; allowed: RGB (no grey, no alpha).")
            image = np.asarray(opened)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise UserError(f"image '{path}' cannot be read: {error}.") from error
    if size is not None and image.shape[:2] != (size, size):
        raise UserError(
            f"image '{path}' is {image.shape[1]} x {image.shape[0]}; the benchmark asks for {size} x {size}."
        )
    return image


def read_images(paths: Sequence[Path], size: int | None = None) -> np.ndarray:
    """Read pictures of one size into images_BHW3 uint8."""
    images = [read_image(path, size) for path in paths]
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise UserError(f"images of several sizes in '{paths[0].parent}': {sorted(shapes)}; they must agree.")
    return np.stack(images)
