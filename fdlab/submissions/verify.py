"""Every claim of a submission, from what needs nothing to what needs networks and weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdlab.benchmarks.benchmark import Benchmark
from fdlab.measure.networks import Extractors
from fdlab.records.per_sample import ScoredPictures
from fdlab.submissions import claims
from fdlab.submissions.claims import OPEN, SCORES, Claim
from fdlab.submissions.packing import Submission


@dataclass(frozen=True)
class Here:
    """What there is to check with."""

    cache: Path
    benchmark: Path | None = None
    """Folder of the benchmark; None: one that was rendered before."""
    board: Sequence[Path] = ()
    """Folders of records to rank it among."""
    measure: bool = True
    """Whether pictures are measured again."""
    redraw: int = 4
    """How many are drawn again."""
    redraw_seed: int = 0
    """Decides which: drawn anew for each check."""
    device: str = "cpu"
    words: Sequence[str] = ()
    """Overrides of `evaluate` that name weights and networks here which do not ship."""
    extractors: Extractors | None = None
    """None: those that the record names."""


def verify(found: Submission, here: Here) -> Iterator[Claim]:
    """Claim by claim, as they are checked. Raises: UserError for a benchmark folder that is none."""
    from fdlab.submissions import remeasure

    made, schema = claims.of_record(found)
    # A folder that is none is said before anything else.
    known = None if made is None else remeasure.benchmark_of(made, here.benchmark, here.cache)
    yield from claims.of_files(found)
    yield schema
    if made is None:
        return
    scored, claim = claims.of_pictures(found, made)
    yield claim
    yield claims.of_config(found, made)
    if scored is None:
        return
    yield from claims.of_metrics(made, scored)
    yield claims.of_breakdown(found, made, scored, known)
    yield claims.of_provenance(made)
    yield claims.of_rank(found, made, here.board)
    claim = claims.of_benchmark(made, scored, known)
    yield claim
    if known is None or claim.state != claims.HOLDS:
        yield Claim(SCORES, OPEN, "without the benchmark nothing can be measured again")
        return
    yield from _with_pictures(found, made, scored, known, here)


def _with_pictures(
    found: Submission, made: dict[str, Any], scored: ScoredPictures, known: Benchmark, here: Here
) -> Iterator[Claim]:
    from fdlab.submissions import redraw, remeasure

    if not here.measure or not found.pictures:
        yield Claim(SCORES, OPEN, "not asked for" if not here.measure else "no pictures were packed")
    else:
        networks: Extractors | None = here.extractors
        if networks is None:
            loaded = remeasure.extractors_of(made, known, here.words, here.device)
            if isinstance(loaded, str):
                yield Claim(SCORES, OPEN, loaded.rstrip("."))
            else:
                networks, claim = loaded
                yield claim
        if networks is not None:
            yield from remeasure.measured_again(found, made, scored, known, networks)
    row = redraw.row_of(found, made, known, here.words, here.device)
    if isinstance(row, Claim):
        yield row
        yield Claim(redraw.REDRAWN, OPEN, "the method cannot be had here")
        return
    yield redraw.of_method(made, row)
    if not here.redraw or not found.pictures:
        yield Claim(redraw.REDRAWN, OPEN, "no pictures were packed" if here.redraw else "not asked for")
    else:
        yield redraw.drawn_again(found, known, row, here.redraw, here.redraw_seed)
