"""Rendered people as a data set: many pictures on disk, in FastComposer's layout, on all cores, resumable.

`plan.json` says what a folder is going to hold, `dataset.json` in its place that it holds it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fdlab.data.folder import check_complete
from fdlab.data.layout import is_written, read_json, read_sample, write_ids, write_sample
from fdlab.data.sample import CorruptFile, PersonSample, ShownSubject
from fdlab.data.store import make_once
from fdlab.errors import UserError, unknown
from fdlab.files import flush_all, write_json
from fdlab.foreign import shown
from fdlab.people import picture
from fdlab.progress import track
from fdlab.randomness import numpy_rng
from fdlab.workers import in_processes

PICTURES_PER_IDENTITY = 8
TEST_EVERY = 50
"""One identity in this many goes to image_ids_test.txt."""
CHUNK = 16
COMPLETE, PLAN = "dataset.json", "plan.json"
Job = tuple[Path, str, int, int, int, int, int]
"""Root, mix, number of pictures, seed, size, first picture and the one after the last."""


def people_folder(root: Path, mix: str, num: int, seed: int, size: int) -> Path:
    """Folder of one rendered data set; its name says all that decides its content, the renderer's version
    too."""
    return Path(root) / f"{mix}-{num}-seed{seed}-{size}px-v{picture.VERSION}"


def ensure_people(
    root: Path, mix: str, num: int, seed: int, size: int, workers: int = 0, progress: bool = True
) -> Path:
    """Render the data set below `root` unless it is there already; return its folder.

    An interrupted rendering goes on where it stopped, and what is missing or empty is rendered again; of
    several processes one renders and the others wait. A complete folder is not written to.
    """
    folder, wanted = people_folder(root, mix, num, seed, size), facts(mix, num, seed, size)

    def make() -> None:
        if folder.is_dir() and not any(_readable(folder / name) for name in (COMPLETE, PLAN)):
            # Its name says what it holds, so that a damaged mark need not.
            write_json(folder / PLAN, wanted)
            (folder / COMPLETE).unlink(missing_ok=True)
        render(folder, mix, num, seed, size, workers, progress)

    make_once(folder, lambda: is_whole(folder, wanted), make)
    check_complete(folder, rendered=True)
    return folder


def render(
    root: Path | str, mix: str, num: int, seed: int, size: int = 128, workers: int = 0, progress: bool = True
) -> None:
    """Render a dataset into `root`, going on where an earlier call stopped.

    workers: processes; 0 takes every core. The bytes do not depend on it. UserError for an unknown mix, or
    where `root` holds anything else already; Failure where a process is killed.
    """
    root = Path(root)
    if mix not in picture.MIXES:
        raise unknown("mix of people", mix, picture.MIXES)
    wanted = facts(mix, num, seed, size)
    _check_ours(root, wanted)
    if is_whole(root, wanted):
        return
    write_json(root / PLAN, wanted)
    (root / COMPLETE).unlink(missing_ok=True)
    for index in _incomplete(root, num):
        (root / f"{_id(index)[:5]}/{_id(index)}.json").unlink(missing_ok=True)
    jobs = list(_chunks(root, mix, num, seed, size))
    done = (1 for n in in_processes(_write_chunk, jobs, workers) for _ in range(n))
    for _ in track(done, "rendering people", num, show=progress):
        pass
    _write_splits(root, num, mix, seed)
    flush_all()
    write_json(root / COMPLETE, wanted)
    (root / PLAN).unlink()


def mend(root: Path) -> list[str]:
    """Render again what cannot be read in a complete folder; return the ids."""
    card = read_json(root / COMPLETE)
    broken = [index for index in range(int(card["num"])) if not _can_be_read(root, _id(index))]
    for index in broken:
        (root / f"{_id(index)[:5]}/{_id(index)}.json").unlink(missing_ok=True)
        write_one(root, card["mix"], card["num"], card["seed"], index, card["size"])
    return [_id(index) for index in broken]


def facts(mix: str, num: int, seed: int, size: int) -> dict[str, Any]:
    """What dataset.json says."""
    return {"kind": "people", "mix": mix, "num": num, "seed": seed, "size": size, "version": picture.VERSION}


def num_identities(num: int) -> int:
    """How many people a data set of `num` pictures is drawn from, counted from number 0."""
    return max(16, num // PICTURES_PER_IDENTITY)


def spec_of(mix: str, num: int, seed: int, index: int) -> picture.Spec:
    """The spec of one picture of a dataset: a function of its arguments alone."""
    return picture.draw(picture.MIXES[mix], numpy_rng(seed, "picture", mix, index), num_identities(num))


def write_one(root: Path, mix: str, num: int, seed: int, index: int, size: int) -> None:
    """Render picture `index` and write its files, unless they are there."""
    if is_written(root, _id(index)):
        return
    spec = spec_of(mix, num, seed, index)
    made = picture.render(spec, size)
    text, ends = picture.describe(spec)
    seen = set(np.unique(made.segments_HW).tolist())
    subjects = tuple(ShownSubject(k, end) for k, end in enumerate(ends, 1) if k in seen)
    sample = PersonSample(_id(index), text, made.image_HW3, made.segments_HW, subjects, picture.truth(spec))
    write_sample(root, sample)


def is_whole(root: Path, wanted: dict[str, Any]) -> bool:
    """Whether a folder is complete and holds what is wanted, no file missing or empty."""
    try:
        if read_json(root / COMPLETE) != wanted:
            return False
        listed = [(root / f"image_ids{split}.txt").read_text().split() for split in ("", "_train", "_test")]
    except (CorruptFile, OSError, UnicodeDecodeError):
        return False
    every = [_id(index) for index in range(wanted["num"])]
    return listed[0] == every == sorted(listed[1] + listed[2]) and not _incomplete(root, wanted["num"])


def _check_ours(root: Path, wanted: dict[str, Any]) -> None:
    marks = [root / name for name in (COMPLETE, PLAN) if (root / name).exists()]
    for path in marks:
        try:
            held = read_json(path)
        except CorruptFile as error:
            raise UserError(f"{error} Remove '{root}' to have its people rendered anew.") from error
        if held != wanted:
            raise UserError(f"'{root}' holds another dataset ({shown(held)}); choose another folder.")
    if not marks and root.is_dir():
        for path in sorted(root.iterdir()):
            if not path.name.startswith("."):
                raise UserError(
                    f"'{root}' holds files of another origin ('{path.name}'); choose another folder."
                )


def _incomplete(root: Path, num: int) -> list[int]:
    """Pictures of which a file is missing or empty."""
    sizes: dict[str, int] = {}
    for folder in {_id(index)[:5] for index in range(num)}:
        if (root / folder).is_dir():
            with os.scandir(root / folder) as entries:
                sizes.update((entry.name, entry.stat().st_size) for entry in entries)
    suffixes = (".png", ".npy", ".json")
    return [k for k in range(num) if not all(sizes.get(_id(k) + suffix) for suffix in suffixes)]


def _readable(path: Path) -> bool:
    try:
        read_json(path)
    except CorruptFile:
        return False
    return True


def _can_be_read(root: Path, id: str) -> bool:
    try:
        read_sample(root, id)
    except CorruptFile:
        return False
    return True


def _id(index: int) -> str:
    return f"{index:09d}"


def _write_chunk(job: Job) -> int:
    root, mix, num, seed, size, first, last = job
    for index in range(first, last):
        write_one(root, mix, num, seed, index, size)
    return last - first


def _chunks(root: Path, mix: str, num: int, seed: int, size: int) -> Iterator[Job]:
    for first in range(0, num, CHUNK):
        yield root, mix, num, seed, size, first, min(first + CHUNK, num)


def _write_splits(root: Path, num: int, mix: str, seed: int) -> None:
    def is_held(index: int) -> bool:
        people = spec_of(mix, num, seed, index).people
        return any(number % TEST_EVERY == TEST_EVERY - 1 for number, _ in people)

    write_ids(root, [_id(k) for k in range(num)], test=[_id(k) for k in range(num) if is_held(k)])
