"""Evaluate: draw a benchmark with each method, measure, write records, figures and the report, print the
table."""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fdlab.benchmarks import jobs, profiles
from fdlab.benchmarks.benchmark import Benchmark
from fdlab.evaluation import departures, generation, given_pictures, measuring, scoring
from fdlab.evaluation import second_recogniser as second
from fdlab.evaluation.measuring import References
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
    todo: Sequence[jobs.Job]
    device: str
    show: bool = True


@dataclass(frozen=True)
class _Scoring:
    """What the scores of all rows depend on besides."""

    extractors: Extractors
    references: References
    other: second.Second | None = None


def evaluate(
    cfg: Any, run_dir: Path, rows: Sequence[Row] | None = None, extractors: Extractors | None = None
) -> list[dict[str, Any]]:
    """Evaluate `rows` (by default those of `rows.standard`) and return their records, the main one last.

    The last row is the method itself: its files are in `run_dir`/evaluation, the others' in
    evaluation/rows/<name>. What an interrupted call drew is kept. Raises: UserError before anything is drawn,
    where input is wrong.
    """
    settings = EvaluationSettings.read(cfg)
    device = device_of(settings.accelerator)
    loading.check(settings.extractors)
    benchmark = settings.benchmark.open()
    if rows is None:
        rows = _rows(settings, MethodSettings.read(cfg), benchmark, run_dir, device)
    if extractors is None:
        profile = profiles.profile_of(benchmark.profile)
        extractors = loading.load_extractors(settings.extractors, device, profile.min_face)
    sampler = settings.sampler if settings.images is None else {}
    benchmark, extractors = departures.settle(benchmark, extractors, settings.extractors.clip, sampler)
    drawing = _Drawing(settings, benchmark, jobs.jobs(benchmark), device)
    references = measuring.references(benchmark, extractors)
    scores = _Scoring(extractors, references, second.prepare(settings.extractors, benchmark, device))
    records = [_row(drawing, scores, row, folder_of(run_dir, rows, row)) for row in rows]
    done = Evaluated(run_dir, benchmark, rows, records)
    figures = done.write(f"{settings.experiment} / {run_dir.name}", settings.config)
    if "logger" in cfg:
        for logger in make_loggers(LoggerSettings.read(cfg), run_dir, {}):
            if hasattr(logger, "log_final"):
                logger.log_final(records[-1]["metrics"], table.markdown(records), figures)
            else:
                wandb_table.log(logger, records, figures, run_dir)
    num = len(drawing.todo)
    table.show(
        records, f"{benchmark.name}: {len(benchmark.subjects)} held-out people, {num} pictures a method"
    )
    return records


def draw_together(cfg: Any, run_dir: Path) -> None:
    """Let each of the processes that trained together draw its share of what `evaluate` wants next; one that
    trained alone draws nothing here. Raises: UserError."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    # The first has the model to write before.
    torch.distributed.barrier()
    draw_share(cfg, run_dir, f"{rank}/{world}", show=rank == 0)
    torch.distributed.barrier()


def draw_share(cfg: Any, run_dir: Path, shard: str, show: bool = True) -> Path:
    """Draw the share "I/N" of every row's pictures, and score nothing; returns the main row's folder.

    Any number of processes and machines may do so in one folder; `evaluate` draws what is missing then and
    scores. Raises: UserError.
    """
    settings = EvaluationSettings.read(cfg)
    device, benchmark = device_of(settings.accelerator), settings.benchmark.open()
    todo = jobs.share(jobs.jobs(benchmark), shard, settings.benchmark.batch_size)
    drawing = _Drawing(settings, benchmark, todo, device, show)
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


def _row(drawing: _Drawing, scores: _Scoring, row: Row, folder: Path) -> dict[str, Any]:
    """Draw, measure and record one method."""
    start = time.perf_counter()
    settings, benchmark, todo = drawing.settings, drawing.benchmark, drawing.todo
    profile = profiles.profile_of(benchmark.profile)
    paths = _draw(drawing, row, folder / "images")
    measuring.check_png(paths)
    measured = measuring.measure(
        paths,
        scores.extractors,
        benchmark.size,
        description=f"{row.label}: scoring",
        num_subjects=benchmark.subjects_per_picture,
        jpeg_quality=profile.jpeg_quality,
    )
    metrics, samples = scoring.score(
        benchmark, todo, measured, scores.references, scores.extractors, compare_with_real=not row.is_real
    )
    seconds = time.perf_counter() - start
    method = {"name": row.name, "label": row.label, **row.method}
    seed = benchmark.seed if settings.seed is None else settings.seed
    where = provenance.measured(
        settings.config_sha256, profile.image_format, drawing.device, seconds, int(seed)
    )
    written = record.build(benchmark.summary(), method, metrics, where)
    record.write(folder, written, samples)
    if scores.other is not None:
        for line in table.pupils([scores.other.write(benchmark, todo, paths, folder, written)]):
            print(f"note: second recogniser: {line}", file=sys.stderr)
    return written


def _draw(drawing: _Drawing, row: Row, folder: Path) -> list[Path]:
    settings = {
        "benchmark": drawing.benchmark.sha256,
        "method": dict(row.method),
        "row": row.name,
        "drawn_with": row.drawn_with,
        "device": drawing.device,
        "code": code_sha256(),
    }
    target = folder
    if row.shared:
        # What no run changes is drawn once for all runs.
        digest = fingerprint(settings)[:24]
        target = drawing.settings.cache / "evaluation" / f"{row.name}-{digest}"
    missing = any(
        not (target / name).is_file() for name in (*(j.file for j in drawing.todo), generation.STAMP)
    )
    method = row.make() if missing or not _same(target, settings) else _never
    paths = generation.generate(
        drawing.todo,
        method,
        target,
        settings,
        drawing.settings.benchmark.batch_size,
        description=f"{row.label}: drawing",
        show=drawing.show,
    )
    if target == folder:
        return paths
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        _copy(path, folder / path.name)
    return [folder / path.name for path in paths]


def _same(folder: Path, settings: dict[str, Any]) -> bool:
    return generation.same_stamp(folder / generation.STAMP, fingerprint(settings))


def _never(batch: Sequence[jobs.Job]) -> Any:
    raise AssertionError("every picture is there; nothing has to be drawn")


def _copy(source: Path, target: Path) -> None:
    from fdlab.files import whole

    with whole(target) as temporary:
        shutil.copyfile(source, temporary)


def code_sha256() -> str:
    """Digest of the code that draws, so that pictures of an older version are not taken for new ones."""
    import fdlab

    root = Path(fdlab.__file__).parent
    files = [
        p for room in ("diffusion", "models", "data", "pipeline") for p in sorted((root / room).rglob("*.py"))
    ]
    files.append(root / "evaluation" / "methods.py")
    return hashlib.sha256(b"".join(hashlib.sha256(p.read_bytes()).digest() for p in files)).hexdigest()
