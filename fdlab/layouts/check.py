"""Is this a data set one can train on? Everything is read as training reads it, to the tokens of each
caption, and everything that is wrong is one line that names the file.

What is finished is kept beside the list that is being made, so that the same call goes on after an
interruption.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fdlab.data.entry import Shape, caption_tokens, cut_subject, read_checked
from fdlab.data.folder import Folder, check_complete, fingerprint, is_rendered
from fdlab.data.sample import CorruptFile, PersonSample
from fdlab.files import write_text
from fdlab.layouts.choose import open_folder, opened_once
from fdlab.layouts.convert import Converted, Options, convert
from fdlab.layouts.flaws import blemishes, flaws
from fdlab.layouts.notes import Notes
from fdlab.progress import bar
from fdlab.workers import Maker, in_processes, made, worth_starting

VERSION = 1
CHUNK = 64
"""Samples a job; what an interruption costs, for each process."""
WORTH = 1000
"""Samples a process is worth starting for."""
REFERENCE = 32
"""Pixels a side of the references that are cut out to see whether they can be."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    entry: str
    """The sample's id, or what of the folder's lists it is."""
    reason: str
    id: str | None
    """Of the sample that cannot be used; None where a clean copy has it all the same."""


@dataclass
class Report:
    """What `check` found."""

    num_samples: int = 0
    """Without a problem of their own."""
    num_subjects: int = 0
    num_unlisted: int = 0
    """There, but in no list of the folder, and so not read: lists may be a choice."""
    problems: list[Problem] = field(default_factory=list)

    @property
    def broken(self) -> set[str]:
        """Ids that cannot be used."""
        return {problem.id for problem in self.problems if problem.id is not None}


@dataclass(frozen=True)
class Asked:
    """How a data set is read."""

    tokenizer: Maker
    split: str = "all"
    labels: tuple[str, ...] | None = None
    """What counts as a subject; None: everything."""
    crop: Maker | None = None
    """How references are cut out, which must be possible."""


@dataclass(frozen=True)
class _Job:
    root: Path
    kind: str
    asked: Asked
    number: int
    ids: tuple[str, ...]


def check(root: Path, asked: Asked, out: Path, workers: int = 0, show: bool = True) -> Report:
    """Read every sample at `root` and write `out`, a JSONL of all that is wrong (empty where nothing is).

    workers: processes; 0: one a core. Raises UserError where there is nothing to read.
    """
    folder = open_folder(root)
    ids, faults = folder.listed(asked.split)
    if not faults:
        check_complete(folder)
    partial = out.with_name(f"{out.name}.partial")
    jobs = [
        _Job(folder.root, folder.kind, asked, n, tuple(ids[start : start + CHUNK]))
        for n, start in enumerate(range(0, len(ids), CHUNK))
    ]
    notes = Notes(partial, _digest(folder, ids, asked))
    todo = [job for job in jobs if job.number not in notes.found]
    left = sum(len(job.ids) for job in todo)
    opened_once.cache_clear()
    with bar("check", len(ids), done=len(ids) - left, show=show) as progress:
        for number, found in in_processes(_examine, todo, worth_starting(workers, left, WORTH)):
            notes.add(number, found)
            progress.advance(len(jobs[number].ids))
    report, strays = Report(), folder.strays() if asked.split == "all" else {}
    report.num_unlisted = len(folder.unlisted()) if asked.split == "all" else 0
    report.problems += [Problem(entry, reason, None) for entry, reason in faults.items()]
    report.problems += [Problem(entry, reason, None) for entry, reason in strays.items()]
    for job in jobs:
        found = notes.found[job.number]
        report.num_subjects += found["subjects"]
        report.problems += [Problem(*problem) for problem in found["problems"]]
    report.num_samples = len(ids) - len({p.entry for p in report.problems} & set(ids))
    write_text(out, "".join(json.dumps(asdict(problem)) + "\n" for problem in report.problems))
    notes.forget()
    return report


def fix(
    root: Path, folder: Path, asked: Asked, report: Report, workers: int = 0, show: bool = True
) -> Converted:
    """Write a clean copy of what `check` has read, in its layout: broken samples left out, boxes that are
    wrong made anew of their masks, every picture in one list."""
    unboxed = {problem.entry for problem in report.problems} - report.broken
    options = Options(
        open_folder(root).kind,
        asked.labels,
        skip_corrupt=True,
        left_out=frozenset(report.broken),
        unboxed=frozenset(unboxed),
    )
    return convert(root, folder, options, workers, show)


def list_path(root: Path, name: str = "check.jsonl") -> Path:
    """Where what is found of a data set goes, unless somewhere else is asked for."""
    return root.with_name(f"{root.name}.{name}") if root.is_file() else root / name


def _digest(folder: Folder, ids: list[str], asked: Asked) -> str:
    """Of all that decides what is found."""
    makers = [
        [part if isinstance(part, str) else part.__qualname__ for part in maker]
        for maker in (asked.tokenizer, asked.crop or ())
    ]
    content = json.dumps([VERSION, asked.split, asked.labels, makers, fingerprint(folder, ids)])
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def _examine(job: _Job) -> tuple[int, dict[str, Any]]:
    """Read a job's samples, in a process of its own; its number, and what was found."""
    folder = opened_once(job.root, job.kind)
    rendered = is_rendered(folder.root)
    problems: list[tuple[str, str, str | None]] = []
    subjects = 0
    for id in job.ids:
        try:
            sample, broken, mendable = _read(folder, id, job.asked, rendered)
        except CorruptFile as error:
            problems.append((id, str(error), id))
            continue
        where = f"sample '{id}' in '{folder.root}'"
        problems += [(id, f"{where}: {reason}.", id) for reason in broken]
        problems += [(id, f"{where}: {reason}.", None) for reason in mendable]
        subjects += 0 if broken or mendable else len(sample.subjects)
    return job.number, {"subjects": subjects, "problems": problems}


def _read(folder: Folder, id: str, asked: Asked, rendered: bool) -> tuple[PersonSample, list[str], list[str]]:
    """A sample as training takes it, and what is wrong with it all the same: for good, and not in a copy.
    Raises: CorruptFile."""
    annotation = folder.annotation(id, asked.labels)
    sample = read_checked(folder, annotation, rendered)
    if asked.crop is not None:
        for subject in sample.subjects:
            cut_subject(sample, subject, REFERENCE, False, made(asked.crop))
    shape = Shape(image_size=1, latent_CHW=(1, 1, 1), reference_size=None, max_subjects=1)
    caption_tokens(made(asked.tokenizer), annotation, shape)
    return sample, flaws(sample, annotation), blemishes(sample, annotation, folder.pictures(id))
