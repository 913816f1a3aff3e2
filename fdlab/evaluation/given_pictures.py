"""Pictures that another program drew: listed for it, and scored like any other method's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fdlab.benchmarks.benchmark import Benchmark
from fdlab.benchmarks.jobs import Job, jobs
from fdlab.data.pictures import read_image
from fdlab.errors import UserError
from fdlab.evaluation.measuring import check_png
from fdlab.evaluation.rows import Row
from fdlab.files import sha256


@dataclass(frozen=True)
class GivenPictures:
    """A folder with one PNG a job, named as the benchmark's list of jobs says."""

    folder: Path
    size: int

    def __call__(self, batch: Sequence[Job]) -> np.ndarray:
        """images_BHW3 uint8."""
        return np.stack([read_image(self.folder / job.file, self.size) for job in batch])


def row(images: str, label: str | None, benchmark: Benchmark) -> Row:
    """Somebody's pictures as a row of the table; `label` None is the folder's name.

    Raises: UserError for a folder, or one of its pictures, that is missing.
    """
    folder = Path(images).expanduser()
    if not folder.is_dir():
        raise UserError(f"images={images}: no such folder.")
    todo = jobs(benchmark)
    missing = [job.file for job in todo if not (folder / job.file).is_file()]
    if missing:
        raise UserError(
            f"'{folder}' lacks '{missing[0]}' ({len(missing)} of {len(todo)} pictures are missing);"
            " `python -m fdlab evaluate --jobs FILE` lists what a benchmark asks for."
        )
    check_png([folder / job.file for job in todo])
    digest = sha256(folder)
    method = {"backbone": None, "sampler": {}, "pictures": {"sha256": digest}, "training_steps": "?"}
    return Row("given", str(label or folder.name), lambda: GivenPictures(folder, benchmark.size), method)
