"""A data set in another layout: sample by sample, by several processes, and going on where it was stopped.

What is under way is noted in `DST/.convert`; `conversion.json` there at the end says what was made of what.
The bytes depend neither on the number of processes nor on interruptions.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fdlab import foreign
from fdlab.data import layout
from fdlab.data.annotation import Annotation
from fdlab.data.folder import Folder, dataset_card, fingerprint
from fdlab.data.sample import LABEL, CorruptFile, PersonSample
from fdlab.errors import UserError, unknown
from fdlab.files import flush_all, whole, write_json
from fdlab.layouts import plain, shards
from fdlab.layouts.carried import carried
from fdlab.layouts.choose import LAYOUTS, open_folder, opened_once
from fdlab.layouts.tars import index_path, write_tar
from fdlab.lock import exclusive
from fdlab.progress import bar
from fdlab.workers import in_processes, worth_starting

VERSION = 1
WORK, DONE = ".convert", "conversion.json"
CHUNK = 512
"""Samples a job, where they are no shard."""
SHARD = 1000
"""Samples a shard."""
SPLITS = ("train", "test")


@dataclass(frozen=True)
class Options:
    """How a data set is written."""

    to: str
    labels: tuple[str, ...] | None = (LABEL,)
    """What has to be whole of a sample; None: every segment. The others are carried where they are."""
    jpeg: bool = False
    """Pictures as JPEG, as FastComposer's own code wants them."""
    skip_corrupt: bool = False
    shard: int = SHARD
    left_out: frozenset[str] = frozenset()
    """Ids that are passed over."""
    unboxed: frozenset[str] = frozenset()
    """Ids whose boxes are made anew of their masks."""


@dataclass
class Converted:
    """What came of it."""

    pictures: int = 0
    shards: int = 0
    subjects_lost: int = 0
    """Of a layout without masks."""
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Job:
    """Some samples, which become a shard or some files."""

    source: Path
    kind: str
    folder: Path
    options: Options
    number: int
    place: int
    """Its number among those of its split."""
    split: str
    ids: tuple[str, ...]
    nested: bool
    """Whether a plain folder has one folder a split."""
    masks: bool
    """Whether what is read has label maps."""


def convert(source: Path, folder: Path, options: Options, workers: int = 0, show: bool = True) -> Converted:
    """Write the data set at `source` to `folder` in the layout `options.to`; what an earlier call has written
    is kept.

    workers: processes; 0: one a core. Raises UserError for a layout that is unknown, a folder that holds
    anything else, and the first sample that cannot be used (unless `skip_corrupt`).
    """
    source, folder = Path(source).expanduser(), Path(folder).expanduser()
    if options.to not in LAYOUTS:
        raise unknown("layout", options.to, LAYOUTS)
    opened = open_folder(source)
    splits = _splits(opened, options)
    wanted = _plan(opened, splits, options)
    if _is_done(folder, wanted):
        return _made(folder)
    _check_free(source, folder, wanted)
    jobs = _jobs(opened, folder, splits, options)
    with exclusive(folder / WORK / "lock"):
        if not _is_done(folder, wanted):
            write_json(folder / WORK / "plan.json", wanted)
            todo = [job for job in jobs if _noted(job) is None]
            left, total = (sum(len(job.ids) for job in some) for some in (todo, jobs))
            opened_once.cache_clear()
            with bar(f"convert to {options.to}", total, done=total - left, show=show) as progress:
                for num in in_processes(_write, todo, worth_starting(workers, left, CHUNK)):
                    progress.advance(num)
            _finish(opened, folder, options, jobs, wanted)
    return _made(folder)


def _made(folder: Path) -> Converted:
    return Converted(**foreign.read_json(folder / DONE, "conversion")["made"])


def _splits(folder: Folder, options: Options) -> dict[str, list[str]]:
    """Ids of each split, less those left out."""
    try:
        held = set(folder.listed("test")[0])
    except UserError:
        # No list or folder of that name: nothing is held out.
        held = set()
    ids = folder.listed()[0] if options.skip_corrupt else folder.ids()
    kept = [id for id in ids if id not in options.left_out]
    if not kept:
        raise UserError(f"data folder '{folder.root}' holds no sample that could be written.")
    return {"train": [id for id in kept if id not in held], "test": [id for id in kept if id in held]}


def _plan(folder: Folder, splits: dict[str, list[str]], options: Options) -> dict[str, Any]:
    """What decides every byte that is written."""
    settings = {k: sorted(v) if isinstance(v, frozenset) else v for k, v in asdict(options).items()}
    kept = [id for split in SPLITS for id in splits[split]]
    content = json.dumps([VERSION, settings, splits, fingerprint(folder, kept)])
    digest = hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
    return {"from": folder.kind, "to": options.to, "samples": len(kept), "digest": digest}


def _is_done(folder: Path, wanted: dict[str, Any]) -> bool:
    if not (folder / DONE).is_file():
        return False
    held = foreign.read_json(folder / DONE, "conversion")
    if not isinstance(held, dict) or {k: held.get(k) for k in wanted} != wanted:
        raise UserError(
            f"'{folder}' holds another conversion, or its source has changed; choose another folder."
        )
    return True


def refuse_nested(source: Path, folder: Path) -> None:
    """Refuse to write a copy into what it is made of, or around it. Raises: UserError."""
    inside, above = folder.resolve(), source.resolve()
    if inside == above or above in inside.parents or inside in above.parents:
        raise UserError(f"'{folder}' and '{source}' lie in each other; choose another folder.")


def _check_free(source: Path, folder: Path, wanted: dict[str, Any]) -> None:
    refuse_nested(source, folder)
    plan = folder / WORK / "plan.json"
    if plan.is_file():
        if foreign.read_json(plan, "plan") != wanted:
            raise UserError(
                f"'{folder}' holds part of another conversion, or its source has changed; choose another "
                "folder, or remove it."
            )
    elif folder.exists() and (not folder.is_dir() or any(p.name != WORK for p in folder.iterdir())):
        raise UserError(f"'{folder}' holds something already; choose another folder.")


def _jobs(folder: Folder, out: Path, splits: dict[str, list[str]], options: Options) -> list[_Job]:
    size = options.shard if options.to == "webdataset" else CHUNK
    nested = options.to == "plain" and bool(splits["test"])
    jobs: list[_Job] = []
    for split in SPLITS:
        for place, start in enumerate(range(0, len(splits[split]), size)):
            ids = tuple(splits[split][start : start + size])
            concerned = replace(options, left_out=frozenset(), unboxed=options.unboxed.intersection(ids))
            jobs.append(
                _Job(
                    source=folder.root,
                    kind=folder.kind,
                    folder=out,
                    options=concerned,
                    number=len(jobs),
                    place=place,
                    split=split,
                    ids=ids,
                    nested=nested,
                    masks=folder.has_masks,
                )
            )
    return jobs


def _note(job: _Job) -> Path:
    return job.folder / WORK / f"{job.number:06d}.json"


def _noted(job: _Job) -> dict[str, Any] | None:
    """What came of a job in an earlier call; None where it has to be done."""
    try:
        found = foreign.read_json(_note(job), "note")
    except UserError:
        return None
    return found if isinstance(found, dict) and "skipped" in found else None


def _write(job: _Job) -> int:
    """Do a job, in a process of its own, and note what came of it; how many samples it saw."""
    result: dict[str, Any] = {"lost": 0, "skipped": {}, "captions": []}
    samples = _samples(job, result)
    if job.options.to == "webdataset":
        path = job.folder / f"{job.split}-{job.place:06d}.tar"
        num = write_tar(path, ((s.id, shards.files_of(s, picture, job.masks)) for s, picture in samples))
        if not num:
            path.unlink()
            index_path(path).unlink()
    for sample, picture in samples if job.options.to != "webdataset" else ():
        if job.options.to == "plain":
            split = job.split if job.nested else ""
            plain.write_sample(job.folder, sample, picture, split)
            file = plain.place_of(sample.id, picture[1], split).as_posix()
            result["captions"].append([file, sample.caption])
        else:
            layout.write_sample(job.folder, sample, picture)
    flush_all()
    write_json(_note(job), result)
    return len(job.ids)


def _samples(job: _Job, result: dict[str, Any]) -> Iterator[tuple[PersonSample, tuple[bytes, str]]]:
    """The job's samples with their pictures' files; what is skipped or lost is counted in `result`."""
    folder = opened_once(job.source, job.kind)
    for id in job.ids:
        try:
            sample = read_whole(folder, id, job.options.labels)
            picture = carried(folder.picture(id), sample.image_HW3, job.options.jpeg)
        except CorruptFile as error:
            if not job.options.skip_corrupt:
                raise
            result["skipped"][id] = str(error)
            continue
        if id in job.options.unboxed:
            sample = replace(sample, subjects=tuple(replace(s, box=None) for s in sample.subjects))
        if not _has_place_for_masks(job.options.to):
            result["lost"] += len(sample.subjects)
        yield sample, picture


def _has_place_for_masks(kind: str) -> bool:
    return kind != plain.PlainFolder.kind


def read_whole(folder: Folder, id: str, labels: Collection[str] | None) -> PersonSample:
    """A sample with every segment that has pixels, whatever its label; those of `labels` have to. Raises:
    CorruptFile."""
    asked = folder.annotation(id, labels)
    sample = folder.sample(id, asked)
    if not asked.others:
        return sample
    try:
        every: Annotation = folder.annotation(id)
    except CorruptFile:
        # Of what was not asked for something is wrong.
        return sample
    asked_for = {subject.segment for subject in sample.subjects}
    subjects = [
        s for s in every.subjects if s.segment in asked_for or (sample.segments_HW == s.segment).any()
    ]
    return replace(sample, subjects=tuple(subjects))


def _finish(
    source: Folder, folder: Path, options: Options, jobs: Sequence[_Job], wanted: dict[str, Any]
) -> None:
    """Write what lists the samples, and the mark that all is there."""
    # What cannot even be listed is left out as well, and nobody asked for these.
    faults = source.listed()[1] if options.skip_corrupt else {}
    made = Converted(skipped={name: why for name, why in faults.items() if name not in options.left_out})
    written: dict[str, list[str]] = {split: [] for split in SPLITS}
    for job in jobs:
        result = _noted(job) or {}
        kept = [id for id in job.ids if id not in result["skipped"]]
        written[job.split] += kept
        made.pictures += len(kept)
        made.shards += options.to == "webdataset" and bool(kept)
        made.subjects_lost += result["lost"]
        made.skipped |= result["skipped"]
    if not made.pictures:
        reason = next(iter(made.skipped.values()))
        raise UserError(f"data folder '{source.root}' holds no sample that can be used: {reason}")
    if options.to == "fastcomposer":
        ids = set(itertools.chain(*written.values()))
        in_order = [id for id in source.listed()[0] if id in ids]
        layout.write_ids(folder, in_order, test=written["test"])
    if options.to == "plain":
        with whole(folder / plain.METADATA) as temporary, temporary.open("w", encoding="utf-8") as stream:
            for job in jobs:
                stream.writelines(plain.line_of(*line) for line in (_noted(job) or {})["captions"])
    card = dataset_card(source.root) if _has_place_for_masks(options.to) else None
    if card is not None:
        write_json(folder / "dataset.json", card | ({"num": made.pictures} if "num" in card else {}))
    flush_all()
    write_json(folder / DONE, {**wanted, "made": asdict(made)})
    shutil.rmtree(folder / WORK)
