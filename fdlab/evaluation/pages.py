"""Figures, table and report of an evaluation whose records are written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdlab.benchmarks import benchmark as benchmarks
from fdlab.benchmarks.attributes import attributes
from fdlab.benchmarks.benchmark import Benchmark
from fdlab.data.captions import unmarked
from fdlab.evaluation.rows import Row
from fdlab.files import write_text
from fdlab.metrics import registry
from fdlab.records import breakdown, gallery, per_sample, table

MAIN, OTHERS = "evaluation", "evaluation/rows"
Figure = tuple[str, Path]
"""Caption and file."""


def folder_of(run_dir: Path, rows: Sequence[Row], row: Row) -> Path:
    """Where a row's record and pictures go."""
    return run_dir / MAIN if row is rows[-1] else run_dir / OTHERS / row.name


@dataclass(frozen=True)
class Evaluated:
    """What was evaluated: a benchmark's pictures by every row, the method itself last."""

    run_dir: Path
    benchmark: Benchmark
    rows: Sequence[Row]
    records: Sequence[dict[str, Any]]

    def write(self, title: str, config: str) -> list[Figure]:
        """Write figures, table and report, which shows `config`; return the figures."""
        from fdlab.records import report

        shown = [*self._figures(), *self._of_training()]
        write_text(
            self.run_dir / MAIN / "table.md",
            f"{table.markdown(self.records, list(registry.METRICS))}\n{table.note(self.records)}\n",
        )
        links, parts = self._pages()
        report.write(
            self.run_dir / "report.html",
            title,
            self.records,
            self.rows[-1].name,
            shown,
            [("Configuration", config)],
            links,
            parts,
        )
        return shown

    def _figures(self) -> list[Figure]:
        from fdlab.records import figures

        folder = self.run_dir / MAIN / "figures"
        path = folder / "pictures.png"
        figures.image_grid(*self._grid(), path)
        shown = [("Same people, same prompt, one column a method", path)]
        names = table.columns(self.records)
        if names:
            path = folder / "intervals.png"
            figures.intervals(self.records, names, [table.label(r) for r in self.records], path)
            shown.append(("Every method with its 95 % interval", path))
        pictures = per_sample.read(self.run_dir / MAIN)
        if any(figures.matched(picture) for picture in pictures):
            path = folder / "similarity.png"
            ids = [subject.id for subject in self.benchmark.subjects]
            figures.similarity_histogram(pictures, ids, path, table.label(self.records[-1]))
            shown.append(("How similar drawn faces are to their own and to other references", path))
        return shown

    def _of_training(self) -> list[Figure]:
        from fdlab.records import figures

        shown = []
        curves, path = self.run_dir / "metrics.csv", self.run_dir / MAIN / "figures" / "curves.png"
        if curves.is_file() and figures.training_curves(curves, path):
            shown.append(("Training curves", path))
        grids = sorted((self.run_dir / "samples").glob("*.png"), key=os.path.getmtime)
        if grids:
            shown.append((f"Last sample grid while training ({grids[-1].name})", grids[-1]))
        return shown

    def _pages(self) -> tuple[dict[str, str], dict[str, Any]]:
        """Write every row's samples.html and breakdown.json; return the pages' links by method and the main
        row's breakdown."""
        links, parts = {}, {}
        benchmark = self.benchmark
        references = {s.id: benchmark.folder / s.references[0] for s in benchmark.subjects}
        of_people = attributes(benchmark)
        for row, written in zip(self.rows, self.records, strict=True):
            folder = folder_of(self.run_dir, self.rows, row)
            found = per_sample.arrays(per_sample.read(folder), written["metrics"])
            parts = breakdown.write(folder, written, found, benchmark.seed, of_people)
            back = os.path.relpath(self.run_dir / "report.html", folder)
            page = gallery.write(folder, written, found, references, Path(back).as_posix())
            links[row.name] = page.relative_to(self.run_dir).as_posix()
        return links, parts

    def _grid(self, num: int = 8) -> tuple[list[tuple[str, list[Path | None]]], list[str]]:
        """Up to `num` subjects or groups, each with another prompt: references, then every row's picture."""
        lines: list[tuple[str, list[Path | None]]] = []
        benchmark = self.benchmark
        drawn = benchmark.drawn
        # Groups follow one another by their first subject; taken evenly they show everybody.
        step = max(1, len(drawn) / num) if benchmark.groups else 1
        for i in range(min(num, len(drawn))):
            group, prompt = drawn[int(i * step)], benchmark.prompts[i % len(benchmark.prompts)]
            file = f"{benchmarks.group_id(group)}-{prompt.id}-0.png"
            pictures: list[Path | None] = [benchmark.folder / subject.references[0] for subject in group]
            pictures += [folder_of(self.run_dir, self.rows, row) / "images" / file for row in self.rows]
            lines.append((unmarked(prompt.of(group)), pictures))
        size = benchmark.subjects_per_picture
        references = ["reference"] if size == 1 else [f"reference {k + 1}" for k in range(size)]
        return lines, [*references, *(row.label for row in self.rows)]
