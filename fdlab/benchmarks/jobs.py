"""What a benchmark asks for: one job per (subjects, prompt, index), each with its seed and its file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fdlab.benchmarks.benchmark import Benchmark, Prompt, Subject, group_id
from fdlab.files import write_text
from fdlab.pipeline.batches import whole_batches
from fdlab.randomness import derive
from fdlab.workers import share_of


@dataclass(frozen=True)
class Job:
    """One picture to be drawn."""

    subjects: tuple[Subject, ...]
    prompt: Prompt
    index: int
    seed: int
    text: str
    """The prompt with its noun and marker: `a woman <|image|> on a beach`."""

    @property
    def subject(self) -> Subject:
        """The first, or only, subject."""
        return self.subjects[0]

    @property
    def group(self) -> str:
        """The subjects' ids in one word."""
        return group_id(self.subjects)

    @property
    def id(self) -> str:
        return f"{self.group}-{self.prompt.id}-{self.index}"

    @property
    def file(self) -> str:
        return f"{self.id}.png"


def jobs(benchmark: Benchmark) -> list[Job]:
    """All pictures of a benchmark in a fixed order; seed = f(benchmark seed, subjects, prompt, index)."""
    return [
        Job(
            subjects=group,
            prompt=prompt,
            index=index,
            seed=derive(benchmark.seed, "benchmark", *(s.id for s in group), prompt.id, index),
            text=prompt.of(group),
        )
        for group, prompt, index in benchmark.cells()
    ]


def share(todo: Sequence[Job], shard: str | None, batch_size: int = 1) -> list[Job]:
    """The jobs of shard "I/N", 0 <= I < N: every N-th batch, from the I-th; all of them for None.

    Shards together hold every job once, in the batches in which all would be drawn. Raises: UserError.
    """
    if shard is None:
        return list(todo)
    index, count = share_of(shard)
    batches = whole_batches(todo, batch_size)[index::count]
    return [job for batch in batches for job in batch]


def write_jobs(benchmark: Benchmark, path: Path) -> int:
    """List what has to be drawn, one JSON object a line; returns how many.

    Each has file, prompt with markers, seed, size, and the subjects' reference pictures (and
    masks, where the benchmark has them).
    """
    lines = []
    for job in jobs(benchmark):
        subjects = [
            {
                "id": subject.id,
                "noun": subject.noun,
                "references": [str((benchmark.folder / name).absolute()) for name in subject.references],
                "masks": [
                    str(mask.absolute()) for name in subject.references if (mask := benchmark.mask_of(name))
                ],
            }
            for subject in job.subjects
        ]
        entry = {"file": job.file, "prompt": job.text, "seed": job.seed, "size": benchmark.size}
        lines.append(json.dumps({**entry, "subjects": subjects}) + "\n")
    write_text(path, "".join(lines))
    return len(lines)
