"""Pictures that another program drew: listed for it, and scored like any other method's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fdlab.benchmarks.benchmark import Benchmark
from fdlab.benchmarks.jobs import Job, jobs
from fdlab.data.pictures import read_image
from fdlab.errors import UserError
from fdlab.evaluation.measuring import check_png
from fdlab.evaluation.rows import Row, ceilings
from fdlab.files import sha256


@dataclass(frozen=True)
class GivenPictures:
    """A folder with one PNG a job, named as the benchmark's list of jobs says."""

    folder: Path
    size: int

    def __call__(self, batch: Sequence[Job]) -> np.ndarray:
        """images_BHW3 uint8."""
        return np.stack([read_image(self.folder / job.file, self.size) for job in batch])


def rows(cfg: Any, benchmark: Benchmark, device: str) -> list[Row]:
    """The table of somebody's pictures: the ceilings where there are true pictures, then these.

    Raises: UserError for a folder, or one of its pictures, that is missing.
    """
    folder = Path(cfg.images).expanduser()
    if not folder.is_dir():
        raise UserError(f"images={cfg.images}: no such folder.")
    todo = jobs(benchmark)
    missing = [job.file for job in todo if not (folder / job.file).is_file()]
    if missing:
        raise UserError(
            f"'{folder}' lacks '{missing[0]}' ({len(missing)} of {len(todo)} pictures are missing);"
            " `python -m fdlab evaluate --jobs FILE` lists what a benchmark asks for."
        )
    check_png([folder / job.file for job in todo])
    label = str(cfg.label or folder.name)
    digest = sha256(folder)
    method = {"backbone": None, "sampler": {}, "pictures": {"sha256": digest}, "training_steps": "?"}
    main = Row("given", label, lambda: GivenPictures(folder, benchmark.size), method)
    above = ceilings(cfg, benchmark, device)[:1] if benchmark.real and cfg.benchmark.baselines else []
    return [*above, main]
