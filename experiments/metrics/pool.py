"""Measuring: every picture once, each level of a fault as a choice among what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faults
import numpy as np
import worlds
from faults import Fault

from fdlab.benchmarks.benchmark import Benchmark
from fdlab.benchmarks.jobs import Job
from fdlab.data.pictures import read_image, write_png
from fdlab.evaluation import measuring, scoring
from fdlab.evaluation.measuring import Measured, References
from fdlab.measure.networks import Extractors
from fdlab.randomness import derive


@dataclass
class Pool:
    """Every picture measured once; a level of a fault is a choice among them."""

    bench: Benchmark
    extractors: Extractors
    sets: dict[str, Measured]

    def add(self, name: str, paths: Sequence[Path]) -> None:
        self.sets[name] = measuring.measure(
            paths, self.extractors, self.bench.size, 16, name, num_subjects=self.bench.subjects_per_picture
        )

    def take(self, chosen: Sequence[faults.Picture]) -> Measured:
        """What was measured on the chosen pictures, as if they had been measured together."""

        def listed(key: str) -> list[Any]:
            return [getattr(self.sets[name], key)[n] for name, n in chosen]

        judged = [(self.sets[name].judged, n) for name, n in chosen]
        assert judged[0][0] is not None
        return Measured(
            faces=listed("faces"),
            counted=listed("counted"),
            embedding_NMD=np.stack(listed("embedding_NMD")),
            clip_ND=np.stack(listed("clip_ND")),
            features_ND=np.stack(listed("features_ND")),
            judged={key: [answers[key][n] for answers, n in judged if answers] for key in judged[0][0]},
        )


def spoilt(bench: Benchmark, todo: Sequence[Job], fault: Fault, level: float) -> list[Path]:
    """The drawn pictures with a fault of pixels, written once."""
    assert fault.change
    folder = bench.folder / f"{fault.name} {level:g}"
    for job, source in zip(todo, worlds.paths(bench, worlds.DRAWN), strict=True):
        if not (folder / job.file).is_file():
            seed = derive(0, fault.name, job.id)
            write_png(folder / job.file, fault.change(read_image(source), level, seed))
    return [folder / job.file for job in todo]


def scored(
    bench: Benchmark, todo: list[Job], measured: Measured, known: References, extractors: Extractors
) -> dict[str, dict[str, Any]]:
    """Every metric as value, interval and n; and diversity, which rows alone have."""
    metrics, rows = scoring.score(bench, todo, measured, known, extractors)
    found = {
        name: {key: entry[key] for key in ("value", "ci_low", "ci_high", "n")}
        for name, entry in metrics.items()
    }
    several = [row["diversity"] for row in rows if row.get("diversity") is not None]
    if several:
        found["diversity"] = {"value": float(np.mean(several)), "n": len(several)}
    return found
