"""The data set as files, in FastComposer's layout; whole or not at all. H W pixels, 3 RGB."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fdlab import foreign
from fdlab.data.layout import write_ids, write_sample
from fdlab.data.pictures import photo_of
from fdlab.data.sample import PersonSample, ShownSubject
from fdlab.errors import UserError
from fdlab.files import whole_folder, write_json
from fdlab.preparation.find import QUALITY
from fdlab.preparation.masks import read_labels
from fdlab.preparation.plan import Chosen, Plan
from fdlab.preparation.work import Stage
from fdlab.progress import bar
from fdlab.workers import in_processes, worth_starting

DONE = "preparation.json"
CHUNK, WORTH = 32, 128
LEFT_OF_A_FACE = 4
"""Pixels a side that a blurred face is made of: nothing brings the others back."""


@dataclass(frozen=True)
class _Job:
    folder: Path
    pictures: Stage
    masks: Stage
    chosen: tuple[Chosen, ...]


def check_ours(folder: Path) -> None:
    """Refuse to take the place of anything but an earlier preparation. Raises: UserError."""
    if folder.exists() and not (folder.is_dir() and ((folder / DONE).is_file() or not any(folder.iterdir()))):
        raise UserError(f"'{folder}' holds something else already; choose another folder.")


def digest_of(plan: Plan, facts: Mapping[str, Any]) -> str:
    """What decides every byte of the data set."""
    told = [
        [c.id, c.seen.key, c.caption, c.held_out, c.blurred, [[p.face, p.end, p.identity] for p in c.people]]
        for c in plan.chosen
    ]
    return hashlib.blake2b(json.dumps([facts, told]).encode(), digest_size=16).hexdigest()


def is_written(folder: Path, digest: str) -> bool:
    """Whether the folder holds just this."""
    if not (folder / DONE).is_file():
        return False
    held = foreign.read_json(folder / DONE, "preparation")
    return isinstance(held, dict) and held.get("digest") == digest


def write(
    folder: Path,
    plan: Plan,
    pictures: Stage,
    masks: Stage,
    card: Mapping[str, Any],
    workers: int = 0,
    show: bool = True,
) -> None:
    """Write the data set beside its place, and then put it there. `card` is preparation.json."""
    check_ours(folder)
    chosen = plan.chosen
    with whole_folder(folder) as temporary:
        jobs = [
            _Job(temporary, pictures, masks, chosen[at : at + CHUNK]) for at in range(0, len(chosen), CHUNK)
        ]
        with bar("write", len(chosen), show=show) as progress:
            for num in in_processes(_write, jobs, worth_starting(workers, len(chosen), WORTH)):
                progress.advance(num)
        write_ids(temporary, [c.id for c in chosen], test=[c.id for c in chosen if c.held_out])
        write_json(temporary / DONE, card)


def _write(job: _Job) -> int:
    for chosen in job.chosen:
        data = job.pictures.path(chosen.seen.key, ".jpg").read_bytes()
        image_HW3 = photo_of(data, f"picture of {chosen.seen.name}")
        if chosen.blurred:
            image_HW3, data = _blurred(image_HW3, chosen)
        sample = sample_of(chosen, image_HW3, read_labels(job.masks, chosen.seen.key))
        write_sample(job.folder, sample, (data, ".jpg"))
    return len(job.chosen)


def sample_of(chosen: Chosen, image_HW3: np.ndarray, labels_HW: np.ndarray) -> PersonSample:
    """A chosen picture as training reads it: segment n is the n-th person from the left, and subjects are
    those whom the caption names."""
    segments_HW = np.zeros(labels_HW.shape, np.uint8)
    for n, person in enumerate(chosen.people, 1):
        segments_HW[labels_HW == person.face + 1] = n
    subjects = [
        ShownSubject(n, person.end, person.identity)
        for n, person in enumerate(chosen.people, 1)
        if person.end is not None
    ]
    subjects.sort(key=lambda subject: subject.end)
    return PersonSample(chosen.id, chosen.caption, image_HW3, segments_HW, tuple(subjects))


def _blurred(image_HW3: np.ndarray, chosen: Chosen) -> tuple[np.ndarray, bytes]:
    """The picture with some faces made unrecognisable, and its file."""
    image = Image.fromarray(image_HW3)
    for number in chosen.blurred:
        face = chosen.seen.faces[number]
        x1, y1, x2, y2 = face.box
        margin = 0.2 * face.side
        area = (
            max(0, int(x1 - margin)),
            max(0, int(y1 - margin)),
            min(image.width, int(x2 + margin) + 1),
            min(image.height, int(y2 + margin) + 1),
        )
        if area[0] < area[2] and area[1] < area[3]:
            part = image.crop(area)
            few = part.resize((LEFT_OF_A_FACE, LEFT_OF_A_FACE), Image.Resampling.BOX)
            image.paste(few.resize(part.size, Image.Resampling.BICUBIC), area)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=QUALITY, subsampling=0)
    return np.asarray(image), stream.getvalue()
