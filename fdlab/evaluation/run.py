"""Evaluate: draw a benchmark with each method, measure, write records, figures and the report, print the
table."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdlab.benchmarks import benchmark as benchmarks
from fdlab.benchmarks import jobs, profiles
from fdlab.benchmarks.benchmark import Benchmark
from fdlab.data.captions import unmarked
from fdlab.errors import UserError, unknown
from fdlab.evaluation import departures, generation, measuring, scoring
from fdlab.evaluation import second_recogniser as second
from fdlab.evaluation.measuring import References
from fdlab.evaluation.rows import Row, check_group_size, check_weights, standard
from fdlab.files import fingerprint, write_text
from fdlab.measure import choose as loading
from fdlab.measure.networks import Extractors
from fdlab.metrics import registry
from fdlab.records import breakdown, gallery, provenance, record, table, wandb_table
from fdlab.records import per_sample as samples

MAIN, OTHERS = "evaluation", "evaluation/rows"
KINDS = ("people", "folder")


@dataclass(frozen=True)
class _Bench:
    """What all rows of one evaluation share."""

    cfg: Any
    benchmark: Benchmark
    todo: list[jobs.Job]
    extractors: Extractors
    references: References
    device: str
    other: second.Second | None = None


def evaluate(
    cfg: Any, run_dir: Path, rows: Sequence[Row] | None = None, extractors: Extractors | None = None
) -> list[dict[str, Any]]:
    """Evaluate `rows` (by default those of `rows.standard`) and return their records, the main one last.

    The last row is the method itself: its files are in `run_dir`/evaluation, the others' in
    evaluation/rows/<name>. What an interrupted call drew is kept. Raises: UserError before anything is drawn,
    where input is wrong.
    """
    device = device_of(cfg)
    loading.check(cfg)
    benchmark = open_benchmark(cfg)
    if rows is None:
        rows = _rows(cfg, benchmark, run_dir, device)
    if extractors is None:
        extractors = loading.chosen(cfg, device, profiles.chosen(cfg).min_face)
    benchmark, extractors = departures.settle(cfg, benchmark, extractors)
    todo = jobs.jobs(benchmark)
    references = measuring.references(benchmark, extractors)
    other = second.prepare(cfg, benchmark, device)
    bench = _Bench(cfg, benchmark, todo, extractors, references, device, other)
    records = [_row(bench, row, folder_of(run_dir, rows, row)) for row in rows]
    figures = finish(cfg, run_dir, benchmark, rows, records)
    if "logger" in cfg:
        wandb_table.log(cfg, run_dir, records, figures)
    title = f"{benchmark.name}: {len(benchmark.subjects)} held-out people, {len(todo)} pictures a method"
    table.show(records, title)
    return records


def draw_share(cfg: Any, run_dir: Path, shard: str) -> Path:
    """Draw the share "I/N" of every row's pictures, and score nothing; returns the main row's folder.

    Any number of processes and machines may do so in one folder; `evaluate` draws what is missing then and
    scores. Raises: UserError.
    """
    device, benchmark = device_of(cfg), open_benchmark(cfg)
    todo = jobs.share(jobs.jobs(benchmark), shard, int(cfg.benchmark.batch_size))
    rows = _rows(cfg, benchmark, run_dir, device)
    for row in rows:
        _draw(cfg, benchmark, todo, row, folder_of(run_dir, rows, row) / "images", device)
    return folder_of(run_dir, rows, rows[-1])


def _rows(cfg: Any, benchmark: Benchmark, run_dir: Path, device: str) -> Sequence[Row]:
    if cfg.get("images") is None:
        return standard(cfg, benchmark, run_dir, device)
    from fdlab.evaluation import given_pictures as given

    return given.rows(cfg, benchmark, device)


def check(cfg: Any) -> None:
    """Look for what the evaluation of a training will need, before the training begins. Raises: UserError."""
    if cfg.benchmark.kind not in KINDS:
        raise unknown("benchmark.kind", str(cfg.benchmark.kind), KINDS)
    if cfg.benchmark.kind == "folder":
        size = open_benchmark(cfg).subjects_per_picture
    else:
        from fdlab.people import benchmark as rendered

        size = rendered.subjects_per_picture(cfg.benchmark.name)
    check_group_size(cfg, size)
    check_weights(cfg)
    loading.check(cfg)


def open_benchmark(cfg: Any) -> Benchmark:
    """The benchmark of a configuration, rendered first if it is one of rendered people, then limited. Raises:
    UserError."""
    settings = cfg.benchmark
    folder = Path(settings.folder).expanduser()
    if settings.kind not in KINDS:
        raise unknown("benchmark.kind", str(settings.kind), KINDS)
    if settings.kind == "people":
        from fdlab.people import benchmark as rendered

        # A folder a version: what an older renderer left is neither mixed in nor thrown away.
        folder = folder / f"v{rendered.manifest(settings.name)['version']}"
        rendered.render(folder, settings.name)
    profile = profiles.chosen(cfg).name
    limits = (settings.max_subjects, settings.max_prompts, settings.max_images)
    return benchmarks.load(folder).limited(*limits).scored(profile)


def device_of(cfg: Any) -> str:
    """The device to evaluate on: a GPU if there is one, unless the trainer is told to use the CPU."""
    import torch

    accelerator = cfg.trainer.accelerator
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise UserError("trainer.accelerator=gpu, but no GPU is here; allowed: auto, cpu.")
    return "cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu"


def folder_of(run_dir: Path, rows: Sequence[Row], row: Row) -> Path:
    """Where a row's record and pictures go."""
    return run_dir / MAIN if row is rows[-1] else run_dir / OTHERS / row.name


def _row(bench: _Bench, row: Row, folder: Path) -> dict[str, Any]:
    """Draw, measure and record one method."""
    start = time.perf_counter()
    paths = _draw(bench.cfg, bench.benchmark, bench.todo, row, folder / "images", bench.device)
    measuring.check_png(paths)
    measured = measuring.measure(
        paths,
        bench.extractors,
        bench.benchmark.size,
        description=f"{row.label}: scoring",
        num_subjects=bench.benchmark.subjects_per_picture,
        jpeg_quality=profiles.chosen(bench.cfg).jpeg_quality,
    )
    metrics, samples = scoring.score(
        bench.benchmark,
        bench.todo,
        measured,
        bench.references,
        bench.extractors,
        compare_with_real=not row.is_real,
    )
    seconds = time.perf_counter() - start
    method = {"name": row.name, "label": row.label, **row.method}
    written = record.build(
        bench.benchmark.summary(),
        method,
        metrics,
        provenance.measured(
            bench.cfg, bench.device, seconds, int(bench.cfg.get("seed", bench.benchmark.seed))
        ),
    )
    record.write(folder, written, samples)
    if bench.other is not None:
        bench.other.write(bench.benchmark, bench.todo, paths, folder, written)
    return written


def _draw(
    cfg: Any, benchmark: Benchmark, todo: Sequence[jobs.Job], row: Row, folder: Path, device: str
) -> list[Path]:
    settings = {
        "benchmark": benchmark.sha256,
        "method": dict(row.method),
        "row": row.name,
        "drawn_with": row.drawn_with,
        "device": device,
        "code": code_sha256(),
    }
    target = folder
    if row.shared:
        # What no run changes is drawn once for all runs.
        digest = fingerprint(settings)[:24]
        target = Path(cfg.paths.cache).expanduser() / "evaluation" / f"{row.name}-{digest}"
    missing = (
        any(not (target / job.file).is_file() for job in todo) or not (target / generation.STAMP).is_file()
    )
    method = row.make() if missing or not _same(target, settings) else _never
    paths = generation.generate(
        todo,
        method,
        target,
        settings,
        int(cfg.benchmark.batch_size),
        description=f"{row.label}: drawing",
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


def finish(
    cfg: Any, run_dir: Path, benchmark: Benchmark, rows: Sequence[Row], records: Sequence[dict[str, Any]]
) -> list[tuple[str, Path]]:
    """Write figures, table and report of written records; return the figures' captions and files."""
    from omegaconf import OmegaConf

    from fdlab.records import figures, report

    folder = run_dir / MAIN / "figures"
    shown = []
    path = folder / "pictures.png"
    figures.image_grid(*_grid(run_dir, benchmark, rows), path)
    shown.append(("Same people, same prompt, one column a method", path))
    names = table.columns(records)
    if names:
        path = folder / "intervals.png"
        figures.intervals(records, names, [table.label(r) for r in records], path)
        shown.append(("Every method with its 95 % interval", path))
    pictures = samples.read(run_dir / MAIN)
    if any(figures.matched(picture) for picture in pictures):
        path = folder / "similarity.png"
        figures.similarity_histogram(
            pictures, [s.id for s in benchmark.subjects], path, table.label(records[-1])
        )
        shown.append(("How similar drawn faces are to their own and to other references", path))
    if (run_dir / "metrics.csv").is_file() and figures.training_curves(
        run_dir / "metrics.csv", folder / "curves.png"
    ):
        shown.append(("Training curves", folder / "curves.png"))
    grids = (
        sorted((run_dir / "samples").glob("*.png"), key=os.path.getmtime)
        if (run_dir / "samples").is_dir()
        else []
    )
    if grids:
        shown.append((f"Last sample grid while training ({grids[-1].name})", grids[-1]))
    write_text(
        run_dir / MAIN / "table.md",
        f"{table.markdown(records, list(registry.METRICS))}\n{table.note(records)}\n",
    )
    config = OmegaConf.to_yaml(cfg, resolve=True) if OmegaConf.is_config(cfg) else str(cfg)
    title = f"{getattr(cfg, 'experiment', 'evaluation')} / {run_dir.name}"
    links, parts = _pages(run_dir, benchmark, rows, records)
    report.write(
        run_dir / "report.html",
        title,
        records,
        rows[-1].name,
        shown,
        [("Configuration", config)],
        links,
        parts,
    )
    return shown


def _pages(
    run_dir: Path, benchmark: Benchmark, rows: Sequence[Row], records: Sequence[dict[str, Any]]
) -> tuple[dict[str, str], dict[str, Any]]:
    """Write every row's samples.html and breakdown.json; return the pages' links by method and the main row's
    breakdown."""
    links, parts = {}, {}
    references = {subject.id: benchmark.folder / subject.references[0] for subject in benchmark.subjects}
    for row, written in zip(rows, records, strict=True):
        folder = folder_of(run_dir, rows, row)
        found = samples.arrays(samples.read(folder), written["metrics"])
        parts = breakdown.write(folder, written, found, benchmark.seed)
        back = os.path.relpath(run_dir / "report.html", folder)
        page = gallery.write(folder, written, found, references, Path(back).as_posix())
        links[row.name] = page.relative_to(run_dir).as_posix()
    return links, parts


def _grid(
    run_dir: Path, benchmark: Benchmark, rows: Sequence[Row], num: int = 8
) -> tuple[list[tuple[str, list[Path | None]]], list[str]]:
    """Up to `num` subjects or groups, each with another prompt: references, then every row's picture."""
    lines: list[tuple[str, list[Path | None]]] = []
    drawn = benchmark.drawn
    # Groups follow one another by their first subject; taken evenly they show everybody.
    step = max(1, len(drawn) / num) if benchmark.groups else 1
    for i in range(min(num, len(drawn))):
        group, prompt = drawn[int(i * step)], benchmark.prompts[i % len(benchmark.prompts)]
        file = f"{benchmarks.group_id(group)}-{prompt.id}-0.png"
        pictures: list[Path | None] = [benchmark.folder / subject.references[0] for subject in group]
        pictures += [folder_of(run_dir, rows, row) / "images" / file for row in rows]
        lines.append((unmarked(prompt.of(group)), pictures))
    size = benchmark.subjects_per_picture
    references = ["reference"] if size == 1 else [f"reference {k + 1}" for k in range(size)]
    return lines, [*references, *(row.label for row in rows)]
