"""A second recogniser's opinion of the same pictures, in a record of its own.

A method that was conditioned on a recogniser, or trained against it, pleases that one: another must judge as
well. Its numbers have the same names, so they stand in another record, `second/record.json` beside the first,
and the leaderboard never puts the two in one table. It is always scored strictly, whatever the first is.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fdlab.benchmarks import profiles
from fdlab.benchmarks.benchmark import Benchmark
from fdlab.benchmarks.jobs import Job
from fdlab.engine.ranks import ALONE, Ranks
from fdlab.evaluation import measuring, scoring
from fdlab.evaluation.measuring import References
from fdlab.measure import choose as loading
from fdlab.measure.networks import Extractors
from fdlab.records import record

FOLDER = "second"


@dataclass(frozen=True)
class Second:
    """The second recogniser, and the references as it sees them."""

    extractors: Extractors
    references: References

    def write(
        self,
        benchmark: Benchmark,
        todo: Sequence[Job],
        paths: Sequence[Path],
        folder: Path,
        first: Mapping[str, Any] | None,
        ranks: Ranks = ALONE,
    ) -> dict[str, Any] | None:
        """Measure pictures that are drawn already, shared out to `ranks`; score them and write
        `folder`/second where this process has their first record, `first`."""
        start = time.perf_counter()
        strict = profiles.PROFILES[profiles.STRICT]
        benchmark = replace(benchmark, profile=strict.name, departures=())
        measured = measuring.measure(
            paths,
            self.extractors,
            benchmark.size,
            description="second recogniser",
            num_subjects=benchmark.subjects_per_picture,
            ranks=ranks,
        )
        if first is None:
            return None
        metrics, pictures = scoring.score(benchmark, todo, measured, self.references, self.extractors, False)
        seconds = round(time.perf_counter() - start, 3)
        provenance = {**first["provenance"], "seconds": seconds, "image_format": strict.image_format}
        written = record.build(benchmark.summary(), first["method"], metrics, provenance)
        pictures = [{**picture, "file": f"../{picture['file']}"} for picture in pictures]
        record.write(folder / FOLDER, written, pictures)
        return written


def prepare(
    settings: loading.ExtractorSettings, benchmark: Benchmark, device: str, ranks: Ranks = ALONE
) -> Second | None:
    """The second recogniser of `settings`, None where none is asked for. Raises: UserError."""
    extractors = loading.second(settings, device)
    if extractors is None:
        return None
    return Second(extractors, measuring.references(benchmark, extractors, ranks=ranks))
