"""What a data set shows, sample by sample, as a training will take it: of every sample its annotation, and of
some the picture in its crop, the masks, the faces in them and the references.

Axes: H W pixels, N subjects, 3 RGB, R side of a reference, 4 RGB and alpha.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fdlab.data.annotation import Annotation, mask_box
from fdlab.data.captions import noun_before
from fdlab.data.entry import Shape, caption_tokens, cut_subject, read_checked
from fdlab.data.folder import Folder, fingerprint, is_rendered
from fdlab.data.sample import CorruptFile, PersonSample
from fdlab.layouts.choose import open_folder, opened_once
from fdlab.layouts.notes import Notes
from fdlab.measure.faces import FaceDetector
from fdlab.measure.faces.face import Boxed
from fdlab.preparation.likeness import look_of
from fdlab.preparation.people_masks import face_oval
from fdlab.progress import bar
from fdlab.randomness import numpy_rng
from fdlab.transforms.framing import framed
from fdlab.transforms.references import laid
from fdlab.workers import Maker, in_processes, made, worth_starting

VERSION = 1
CHUNK = 16
"""Pictures a job; what an interruption costs, for each process."""
WORTH = 100
"""Pictures that a process is worth starting for; an annotation is a fiftieth of one."""
REFERENCE = 64
"""Pixels a side of the references that are compared."""
SMALLEST_FACE = 0.06
"""Of faces that are looked for, as a share of the picture's side."""
OWN = 0.5
"""Share of a face that lies on a mask from which it is that person's."""
ABOVE = 1.5
"""In heights of a face, how far above a mask it is still taken for the one that the mask misses."""


def detector() -> FaceDetector:
    """Finds faces down to `SMALLEST_FACE`."""
    return FaceDetector(min_face=SMALLEST_FACE)


@dataclass(frozen=True)
class Asked:
    """How a training will read the data set."""

    tokenizer: Maker
    image_size: int
    """Pixels a side of the pictures that it is shown."""
    faces: Maker = (detector,)
    """Finds faces: pictures BHW3 to a list of `Boxed` each."""
    split: str = "train"
    labels: tuple[str, ...] | None = None
    """What counts as a subject; None: everything."""
    crop: Maker | None = None
    """How references are cut out; None: by the person's mask."""
    look: int = 500
    """Pictures that are looked at."""
    seed: int = 0


@dataclass(frozen=True)
class Told:
    """What an annotation says."""

    id: str
    caption: str = ""
    nouns: tuple[str, ...] = ()
    """The word before each subject's end, lower case; empty where there is none."""
    identities: tuple[int | None, ...] = ()
    broken: str = ""
    """Why a training cannot read it."""


@dataclass(frozen=True)
class Shown:
    """What a picture shows."""

    id: str
    broken: str = ""
    """Why a training cannot use it."""
    faces: tuple[float | None, ...] = ()
    """Longer side of each subject's face in the training's crop, as a share of the crop's; None: no face is
    found on its mask."""
    covered: tuple[float | None, ...] = ()
    """Share of that face that the mask covers; 0 of a face that the mask misses, None where there is none."""
    strangers: int = 0
    """Faces of people who have no mask."""
    unnamed: int = 0
    """Faces of people who have a mask and no noun."""
    looks: tuple[str, ...] = ()
    """Of the references, see `preparation.likeness`."""


@dataclass(frozen=True)
class Looked:
    """A data set that was looked at."""

    folder: Folder
    told: list[Told] = field(repr=False)
    """Of every sample, in the folder's order."""
    shown: list[Shown] = field(repr=False)
    """Of those looked at; pictures of one person follow one another."""


def look(root: Path, kind: str, asked: Asked, notes: Path, workers: int = 0, show: bool = True) -> Looked:
    """Read a data set of any layout (`kind` as of `open_folder`). `notes`: a file for what is found, which a
    call after an interruption goes on from, and which the caller removes. workers: processes; 0: one a core.
    Raises: UserError."""
    folder = open_folder(root, kind)
    ids, _ = folder.listed(asked.split)
    opened_once.cache_clear()
    told: dict[str, Told] = {}
    some = _jobs(folder, asked, ids, 50 * CHUNK)
    with bar("read", len(ids), show=show) as progress:
        for read in in_processes(_read, some, worth_starting(workers, len(ids) // 50, WORTH)):
            told |= {each.id: each for each in read}
            progress.advance(len(read))
    chosen = by_person([told[id] for id in ids], asked.seed)[: asked.look] if folder.has_masks else []
    jobs = _jobs(folder, asked, chosen, CHUNK)
    kept = Notes(notes, _digest(folder, chosen, asked))
    todo = [job for job in jobs if job.number not in kept.found]
    left = sum(len(job.ids) for job in todo)
    with bar("look", len(chosen), done=len(chosen) - left, show=show) as progress:
        for number, found in in_processes(_look, todo, worth_starting(workers, left, WORTH)):
            kept.add(number, found)
            progress.advance(len(found))
    shown = [_shown(each) for job in jobs for each in kept.found[job.number]]
    return Looked(folder, [told[id] for id in ids], shown)


def by_person(told: Sequence[Told], seed: int) -> list[str]:
    """Ids of what can be read, in an order that is drawn: a person's pictures follow one another, so that
    those of a few people are all among the first."""
    readable = [each for each in told if not each.broken]
    rng = numpy_rng(seed, "look")
    people = sorted({who for each in readable for who in each.identities if who is not None})
    place = dict(zip(people, rng.random(len(people)).tolist(), strict=True))
    own = rng.random(len(readable)).tolist()
    known = [[place[who] for who in each.identities if who is not None] for each in readable]
    order = sorted(range(len(readable)), key=lambda n: (min(known[n], default=own[n]), own[n]))
    return [readable[n].id for n in order]


@dataclass(frozen=True)
class _Job:
    folder: Folder
    asked: Asked
    number: int
    ids: tuple[str, ...]


def _jobs(folder: Folder, asked: Asked, ids: Sequence[str], num: int) -> list[_Job]:
    return [_Job(folder, asked, n, tuple(ids[at : at + num])) for n, at in enumerate(range(0, len(ids), num))]


def _digest(folder: Folder, ids: Sequence[str], asked: Asked) -> str:
    """Of all that decides what is found."""
    makers = [
        [part if isinstance(part, str) else part.__qualname__ for part in maker]
        for maker in (asked.tokenizer, asked.faces, asked.crop or ())
    ]
    facts = [VERSION, asked.image_size, asked.labels, makers, list(ids), fingerprint(folder, ids)]
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()


def _read(job: _Job) -> list[Told]:
    """Annotations, in a process of its own."""
    folder = opened_once(job.folder.root, job.folder.kind)
    found = []
    for id in job.ids:
        try:
            found.append(told_by(folder.annotation(id, job.asked.labels)))
        except CorruptFile as error:
            found.append(Told(id, broken=str(error)))
    return found


def told_by(annotation: Annotation) -> Told:
    """What an annotation says."""
    nouns = tuple(noun_before(annotation.caption, s.end) for s in annotation.subjects)
    return Told(annotation.id, annotation.caption, nouns, tuple(s.identity for s in annotation.subjects))


def _look(job: _Job) -> tuple[int, list[dict[str, Any]]]:
    """Pictures, in a process of its own; the job's number, and what was found."""
    folder = opened_once(job.folder.root, job.folder.kind)
    rendered = _rendered(folder.root)
    return job.number, [asdict(look_at(folder, id, job.asked, rendered)) for id in job.ids]


@lru_cache(maxsize=1)
def _rendered(root: Path) -> bool:
    return is_rendered(root)


def _shown(note: dict[str, Any]) -> Shown:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in note.items()}
    return Shown(**values)


def look_at(folder: Folder, id: str, asked: Asked, rendered: bool = False) -> Shown:
    """One sample, as training takes it."""
    try:
        annotation = folder.annotation(id, asked.labels)
        shape = Shape(asked.image_size, (1, 1, 1), REFERENCE, max(1, len(annotation.subjects)))
        caption_tokens(made(asked.tokenizer), annotation, shape)
        sample = read_checked(folder, annotation, rendered)
    except CorruptFile as error:
        return Shown(id, str(error))
    broken, looks = "", []
    crop = made(asked.crop) if asked.crop else None
    for subject in sample.subjects:
        try:
            rgba_RR4 = cut_subject(sample, subject, REFERENCE, False, crop)
        except CorruptFile as error:
            broken = broken or str(error)
            looks.append("")
            continue
        looks.append(reference_look(rgba_RR4))
    return Shown(id, broken, *_faces(sample, asked), looks=tuple(looks))


def reference_look(rgba_RR4: np.ndarray) -> str:
    """A reference's 256 bits, on grey."""
    grey_RR3 = laid(rgba_RR4, "grey", np.random.default_rng(0))
    return look_of((255 * grey_RR3).round().astype(np.uint8))


def _faces(
    sample: PersonSample, asked: Asked
) -> tuple[tuple[float | None, ...], tuple[float | None, ...], int, int]:
    numbers = [subject.segment for subject in sample.subjects]
    size = (asked.image_size, asked.image_size)
    image_HW3, segments_HW = framed(sample.image_HW3, sample.segments_HW, size, numbers)
    # A copy: torch warns of what cannot be written to.
    found = made(asked.faces)(np.array(image_HW3)[None])[0]
    return matched(found, segments_HW, numbers)


def matched(
    found: Sequence[Boxed], segments_HW: np.ndarray, numbers: Sequence[int]
) -> tuple[tuple[float | None, ...], tuple[float | None, ...], int, int]:
    """Each subject's face and how much of it the mask covers (see `Shown`), faces of people without a mask,
    and faces on masks of nobody asked for."""
    side, num = max(segments_HW.shape), len(numbers)
    sizes: list[float | None] = [None] * num
    covered: list[float | None] = [None] * num
    left, unnamed = [], 0
    for face in sorted(found, key=lambda face: -_longer(face)):
        oval_HW = face_oval(face.box, segments_HW.shape)
        if not oval_HW.any():
            continue
        values, counts = np.unique(segments_HW[oval_HW], return_counts=True)
        shares = dict(zip(values.tolist(), (counts / counts.sum()).tolist(), strict=True))
        best = max(range(num), key=lambda n: shares.get(numbers[n], 0.0), default=None)
        on = 0.0 if best is None else shares.get(numbers[best], 0.0)
        if best is not None and on >= OWN:
            if sizes[best] is None:
                sizes[best], covered[best] = round(_longer(face) / side, 4), round(on, 4)
        elif shares.get(0, 0.0) < OWN:
            unnamed += 1
        else:
            left.append(face)
    strangers = 0
    for face in left:
        n = next(
            (n for n in range(num) if sizes[n] is None and _missed(face, segments_HW == numbers[n])), None
        )
        if n is None:
            strangers += 1
        else:
            sizes[n], covered[n] = round(_longer(face) / side, 4), 0.0
    return tuple(sizes), tuple(covered), strangers, unnamed


def _longer(face: Boxed) -> float:
    x1, y1, x2, y2 = face.box
    return max(x2 - x1, y2 - y1)


def _missed(face: Boxed, mask_HW: np.ndarray) -> bool:
    """Whether a face lies where the mask's owner has one: within the mask's box, or close above it."""
    if not mask_HW.any():
        return False
    x1, y1, x2, y2 = face.box
    left, top, right, bottom = mask_box(mask_HW)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return left <= x <= right and top - ABOVE * (y2 - y1) <= y <= bottom
