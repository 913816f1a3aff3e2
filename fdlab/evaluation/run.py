"""Evaluate: draw a benchmark with each method, measure, write records, figures and the report, print the
table."""

from __future__ import annotations

import io
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdlab.benchmarks import jobs, profiles
from fdlab.benchmarks.benchmark import Benchmark
from fdlab.engine.ranks import Ranks
from fdlab.evaluation import departures, generation, given_pictures, measuring, scoring
from fdlab.evaluation import second_recogniser as second
from fdlab.evaluation.measuring import Measured, References
from fdlab.evaluation.pages import Evaluated, folder_of
from fdlab.evaluation.requirements import device_of
from fdlab.evaluation.rows import Row, ceilings, standard
from fdlab.evaluation.settings import EvaluationSettings, MethodSettings
from fdlab.files import fingerprint
from fdlab.measure import choose as loading
from fdlab.measure.networks import Extractors
from fdlab.records import provenance, record, table, wandb_table
from fdlab.training.loggers import LoggerSettings, make_loggers


@dataclass(frozen=True)
class _Drawing:
    """What the pictures of all rows depend on."""

    settings: EvaluationSettings
    benchmark: Benchmark
    device: str
    shard: str | None = None
    """The share of the pictures that this process draws."""
    show: bool = True

    @property
    def todo(self) -> list[jobs.Job]:
        """What this process draws."""
        return jobs.share(jobs.jobs(self.benchmark), self.shard, self.settings.benchmark.batch_size)


@dataclass(frozen=True)
class _Scoring:
    """What the scores of all rows depend on besides."""

    extractors: Extractors
    references: References
    ranks: Ranks
    other: second.Second | None = None


def evaluate(
    cfg: Any, run_dir: Path, rows: Sequence[Row] | None = None, extractors: Extractors | None = None
) -> list[dict[str, Any]]:
    """Evaluate `rows` (by default those of `rows.standard`) and return their records, the main one last.

    The last row is the method itself: its files are in `run_dir`/evaluation, the others' in
    evaluation/rows/<name>. What an interrupted call drew is kept. Processes that trained together all call
    this: each draws and measures its share, the first scores, writes and has the records, the others have
    none. Raises: UserError before anything is drawn, where input is wrong.
    """
    ranks = Ranks.here()
    # The first has the model to write before.
    ranks.wait()
    settings = EvaluationSettings.read(cfg)
    device = device_of(settings.accelerator)
    loading.check(settings.extractors)
    benchmark = settings.benchmark.open()
    if rows is None:
        rows = _rows(settings, MethodSettings.read(cfg), benchmark, run_dir, device)
    # Notes are told once.
    with nullcontext() if ranks.is_first else redirect_stderr(io.StringIO()):
        if extractors is None:
            profile = profiles.profile_of(benchmark.profile)
            extractors = loading.load_extractors(settings.extractors, device, profile.min_face)
        sampler = settings.sampler if settings.images is None else {}
        benchmark, extractors = departures.settle(benchmark, extractors, settings.extractors.clip, sampler)
    drawing = _Drawing(settings, benchmark, device, ranks.shard, ranks.is_first)
    references = measuring.references(benchmark, extractors, ranks=ranks)
    other = second.prepare(settings.extractors, benchmark, device, ranks)
    scores = _Scoring(extractors, references, ranks, other)
    made = [_row(drawing, scores, row, folder_of(run_dir, rows, row)) for row in rows]
    records = [written for written in made if written is not None]
    if ranks.is_first:
        _show(cfg, Evaluated(run_dir, benchmark, rows, records), settings)
    return records


def _show(cfg: Any, done: Evaluated, settings: EvaluationSettings) -> None:
    """Figures, pages, what loggers keep of them, and the table."""
    records, run_dir, benchmark = done.records, done.run_dir, done.benchmark
    figures = done.write(f"{settings.experiment} / {run_dir.name}", settings.config)
    if "logger" in cfg:
        for logger in make_loggers(LoggerSettings.read(cfg), run_dir, {}):
            if hasattr(logger, "log_final"):
                logger.log_final(records[-1]["metrics"], table.markdown(records), figures)
            else:
                wandb_table.log(logger, records, figures, run_dir)
    num = len(jobs.jobs(benchmark))
    table.show(
        records, f"{benchmark.name}: {len(benchmark.subjects)} held-out people, {num} pictures a method"
    )


def draw_share(cfg: Any, run_dir: Path, shard: str) -> Path:
    """Draw the share "I/N" of every row's pictures, and score nothing; returns the main row's folder.

    Any number of processes and machines may do so in one folder; `evaluate` draws what is missing then and
    scores. Raises: UserError.
    """
    settings = EvaluationSettings.read(cfg)
    device, benchmark = device_of(settings.accelerator), settings.benchmark.open()
    drawing = _Drawing(settings, benchmark, device, shard)
    rows = _rows(settings, MethodSettings.read(cfg), benchmark, run_dir, device)
    for row in rows:
        _draw(drawing, row, folder_of(run_dir, rows, row) / "images")
    return folder_of(run_dir, rows, rows[-1])


def _rows(
    settings: EvaluationSettings, method: MethodSettings, benchmark: Benchmark, run_dir: Path, device: str
) -> Sequence[Row]:
    if settings.images is None:
        return standard(method, benchmark, run_dir, device)
    main = given_pictures.row(settings.images, settings.label, benchmark)
    if not (benchmark.real and method.baselines):
        return [main]
    return [*ceilings(method.backbone, benchmark, device)[:1], main]


def _row(drawing: _Drawing, scores: _Scoring, row: Row, folder: Path) -> dict[str, Any] | None:
    """Draw, measure and record one method; the record where this process is the first."""
    start = time.perf_counter()
    benchmark, ranks, todo = drawing.benchmark, scores.ranks, jobs.jobs(drawing.benchmark)
    _draw(drawing, row, folder / "images")
    ranks.wait()
    paths = [folder / "images" / job.file for job in todo]
    measuring.check_png(paths)
    measured = measuring.measure(
        paths,
        scores.extractors,
        benchmark.size,
        description=f"{row.label}: scoring",
        num_subjects=benchmark.subjects_per_picture,
        jpeg_quality=profiles.profile_of(benchmark.profile).jpeg_quality,
        ranks=ranks,
    )
    written = _record(drawing, scores, row, folder, measured, start) if ranks.is_first else None
    if scores.other is not None:
        again = scores.other.write(benchmark, todo, paths, folder, written, ranks)
        for line in table.pupils([again]) if again else ():
            print(f"note: second recogniser: {line}", file=sys.stderr)
    return written


def _record(
    drawing: _Drawing, scores: _Scoring, row: Row, folder: Path, measured: Measured, start: float
) -> dict[str, Any]:
    """Score what was measured, and write its record; `start` is when its drawing began."""
    settings, benchmark, known = drawing.settings, drawing.benchmark, scores.references
    todo, compares = jobs.jobs(benchmark), not row.is_real
    metrics, samples = scoring.score(benchmark, todo, measured, known, scores.extractors, compares)
    seconds = time.perf_counter() - start
    method = {"name": row.name, "label": row.label, **row.method}
    seed = benchmark.seed if settings.seed is None else settings.seed
    image_format = profiles.profile_of(benchmark.profile).image_format
    where = provenance.measured(settings.config_sha256, image_format, drawing.device, seconds, int(seed))
    written = record.build(benchmark.summary(), method, metrics, where)
    record.write(folder, written, samples)
    return written


def _draw(drawing: _Drawing, row: Row, folder: Path) -> None:
    """Draw this process's share of a row."""
    todo = drawing.todo
    settings = {
        "benchmark": drawing.benchmark.sha256,
        "method": dict(row.method),
        "row": row.name,
        "drawn_with": row.drawn_with,
        "device": drawing.device,
        "code": provenance.drawing_code_sha256(),
    }
    target = folder
    if row.shared:
        # What no run changes is drawn once for all runs.
        digest = fingerprint(settings)[:24]
        target = drawing.settings.cache / "evaluation" / f"{row.name}-{digest}"
    missing = any(not (target / name).is_file() for name in (*(job.file for job in todo), generation.STAMP))
    method = row.make() if missing or not _same(target, settings) else _never
    paths = generation.generate(
        todo,
        method,
        target,
        settings,
        drawing.settings.benchmark.batch_size,
        description=f"{row.label}: drawing",
        show=drawing.show,
    )
    if target == folder:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        _copy(path, folder / path.name)


def _same(folder: Path, settings: dict[str, Any]) -> bool:
    return generation.same_stamp(folder / generation.STAMP, fingerprint(settings))


def _never(batch: Sequence[jobs.Job]) -> Any:
    raise AssertionError("every picture is there; nothing has to be drawn")


def _copy(source: Path, target: Path) -> None:
    from fdlab.files import whole

    with whole(target) as temporary:
        shutil.copyfile(source, temporary)
