"""A benchmark folder, written when all of it was found to be right; benchmark.json comes last."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fdlab.benchmarks import benchmark as benchmarks
from fdlab.benchmarks.benchmark import MANIFEST, Benchmark
from fdlab.benchmarks.convert.photos import Photo
from fdlab.errors import UserError
from fdlab.files import write_json


def check_free(folder: Path) -> None:
    """That no benchmark is overwritten. What an interrupted call left is written again. Raises: UserError."""
    if (folder / MANIFEST).exists():
        raise UserError(f"'{folder}' holds a benchmark already; choose another folder, or remove it first.")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"'{folder}' is a file; give a folder to write the benchmark to.")


def write(folder: Path, manifest: Mapping[str, Any], photos: Mapping[str, Photo], prompts: Path) -> Benchmark:
    """Write a benchmark and read it back. `photos`: name in the folder -> photo; `prompts` is the file that
    messages name. UserError, and nothing written, where the manifest is wrong."""
    check_free(folder)
    benchmarks.parse(dict(manifest), folder, prompts)
    for name, photo in photos.items():
        photo.copy(folder / name)
    write_json(folder / MANIFEST, manifest)
    return benchmarks.load(folder)
