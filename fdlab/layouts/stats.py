"""What is in a data set: counted of all captions, and measured in the pictures of a sample of it.

Axes: H W pixels, N subjects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fdlab.data.annotation import Annotation, mask_box
from fdlab.data.captions import WORD, noun_before, num_tokens
from fdlab.data.folder import Folder
from fdlab.data.sample import CorruptFile, PersonSample
from fdlab.layouts.choose import open_folder, opened_once
from fdlab.progress import bar
from fdlab.randomness import numpy_rng
from fdlab.workers import Maker, in_processes, made, worth_starting

CHUNK = 100
"""Samples a job."""
WORTH = 500
"""Pictures looked at that a process is worth starting for; a caption is a fiftieth of one."""
TOP = 20
"""Words and nouns that are named."""
FACE_BINS = (0, 16, 32, 48, 64, 96, 128, 192, 256, 512)
"""Pixels a side."""
TURN_BINS = (0, 10, 20, 30, 40, 50)
"""Percent of the distance between the eyes."""
TILT_BINS = (0, 5, 10, 20, 30, 45)
"""Degrees."""
SHARE_BINS = (0, 10, 20, 30, 40, 50, 60, 70, 80, 90)
"""Percent of the picture's height."""
SIDE_BINS = (0, 128, 256, 384, 512, 768, 1024, 1536, 2048)
"""Pixels of the shorter side."""


class Boxed(Protocol):
    """A face that was found."""

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x1, y1, x2, y2 in pixels."""

    @property
    def landmarks_52(self) -> np.ndarray:
        """(x, y) of eyes, nose tip and corners of the mouth."""


@dataclass(frozen=True)
class Asked:
    """What is counted, and how."""

    tokenizer: Maker
    """Of the text encoder whose length captions are held against."""
    split: str = "all"
    labels: tuple[str, ...] | None = None
    look: int = 500
    """Pictures that are looked at, drawn at random; the others' captions alone are read."""
    faces: Maker | None = None
    """Finds faces: pictures BHW3 to a list of `Boxed` each; None: none are looked for."""
    seed: int = 0


@dataclass
class Counts:
    """Counters, which add up over samples in any order."""

    subjects: Counter[int] = field(default_factory=Counter)
    """Subjects a picture."""
    words: Counter[str] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)
    """Words a caption."""
    tokens: Counter[int] = field(default_factory=Counter)
    """Tokens a caption, its begin and end included."""
    nouns: Counter[str] = field(default_factory=Counter)
    """Words that stand before a subject's end."""
    identities: Counter[int] = field(default_factory=Counter)
    """Pictures an identity is in."""
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Width and height."""
    heights: Counter[int] = field(default_factory=Counter)
    """Percent of the picture's height that a subject takes."""
    faces: Counter[int] = field(default_factory=Counter)
    """Longer sides of faces, in pixels."""
    turns: Counter[int] = field(default_factory=Counter)
    """How far faces are turned aside, see `pose_of`."""
    tilts: Counter[int] = field(default_factory=Counter)
    """How far faces are tilted, in degrees."""
    faceless: Counter[bool] = field(default_factory=Counter)
    """Whether a subject has no face within its mask."""
    unreadable: Counter[str] = field(default_factory=Counter)
    """Ids."""

    def add(self, other: Counts) -> None:
        """Add what was counted elsewhere."""
        for each in fields(self):
            getattr(self, each.name).update(getattr(other, each.name))


@dataclass(frozen=True)
class Statistics:
    """What is in a data set."""

    folder: Folder
    split: str
    labels: tuple[str, ...] | None
    num: int
    looked_at: list[str]
    """Ids of the pictures that were."""
    counts: Counts
    max_tokens: int
    with_faces: bool


def count(root: Path, asked: Asked, workers: int = 0, show: bool = True) -> Statistics:
    """Count what is in a data set of any layout. workers: processes; 0: one a core. Raises: UserError."""
    folder = open_folder(root)
    ids, _ = folder.listed(asked.split)
    num = min(asked.look, len(ids))
    drawn = numpy_rng(asked.seed, "look").choice(len(ids), num, replace=False)
    looked_at = {ids[row] for row in drawn.tolist()}
    jobs = []
    for start in range(0, len(ids), CHUNK):
        these = tuple(ids[start : start + CHUNK])
        jobs.append(_Job(folder.root, folder.kind, asked, these, looked_at.intersection(these)))
    counts = Counts()
    opened_once.cache_clear()
    with bar("count", len(ids), show=show) as progress:
        processes = worth_starting(workers, num + len(ids) // 50, WORTH)
        for found in in_processes(_count, jobs, processes):
            counts.add(found)
            progress.advance(sum(found.lengths.values()) + sum(found.unreadable.values()))
    kept = [id for id in ids if id in looked_at and id not in counts.unreadable]
    length = int(made(asked.tokenizer).model_max_length)
    return Statistics(
        folder, asked.split, asked.labels, len(ids), kept, counts, length, asked.faces is not None
    )


def samples_of(found: Statistics, num: int) -> list[PersonSample]:
    """So many of the samples that were looked at."""
    ids = found.looked_at
    chosen = [ids[place] for place in sorted({len(ids) * n // num for n in range(num)})] if ids else []
    return [found.folder.sample(id, found.folder.annotation(id, found.labels)) for id in chosen]


@dataclass(frozen=True)
class _Job:
    root: Path
    kind: str
    asked: Asked
    ids: tuple[str, ...]
    looked_at: set[str]


def _count(job: _Job) -> Counts:
    """Count some samples, in a process of its own."""
    folder, counts, asked = opened_once(job.root, job.kind), Counts(), job.asked
    for id in job.ids:
        try:
            annotation = folder.annotation(id, asked.labels)
            sample = folder.sample(id, annotation) if id in job.looked_at else None
        except CorruptFile:
            counts.unreadable[id] += 1
            continue
        read_caption(counts, annotation)
        counts.tokens[num_tokens(made(asked.tokenizer), annotation.caption)] += 1
        if sample is not None:
            faces = None if asked.faces is None else made(asked.faces)(sample.image_HW3[None])[0]
            look_at(counts, sample, faces)
    return counts


def read_caption(counts: Counts, annotation: Annotation) -> None:
    """Count what a caption and its subjects say."""
    words = WORD.findall(annotation.caption.lower())
    counts.words.update(words)
    counts.lengths[len(words)] += 1
    counts.subjects[len(annotation.subjects)] += 1
    for subject in annotation.subjects:
        counts.nouns[noun_before(annotation.caption, subject.end)] += 1
    counts.identities.update({s.identity for s in annotation.subjects if s.identity is not None})


def pose_of(landmarks_52: np.ndarray) -> tuple[int, int]:
    """How far a face is turned aside and tilted, from its five points: the nose's distance from the line
    between the middles of eyes and mouth, in percent of the distance between the eyes (about 0 from the
    front, 50 where it stands before an eye, at most 100), and degrees between the eyes' line and the
    horizon."""
    eyes, nose, mouth = landmarks_52[:2].astype(float), landmarks_52[2].astype(float), landmarks_52[3:]
    across, down = eyes[1] - eyes[0], mouth.astype(float).mean(0) - eyes.mean(0)
    apart, long = max(1e-6, float(np.hypot(*across))), max(1e-6, float(np.hypot(*down)))
    aside = nose - eyes.mean(0)
    off = abs(down[0] * aside[1] - down[1] * aside[0]) / long
    return min(100, round(100 * off / apart)), round(abs(np.degrees(np.arctan2(across[1], across[0]))))


def look_at(counts: Counts, sample: PersonSample, faces: Sequence[Boxed] | None) -> None:
    """Count what a picture shows; `faces` that were found in it, None where none were looked for."""
    height, width = sample.segments_HW.shape
    counts.sizes[width, height] += 1
    sides = [(x1 + x2, y1 + y2, max(x2 - x1, y2 - y1)) for x1, y1, x2, y2 in (f.box for f in faces or ())]
    counts.faces.update(round(side) for *_, side in sides)
    for face in faces or ():
        turn, tilt = pose_of(face.landmarks_52)
        counts.turns[turn] += 1
        counts.tilts[tilt] += 1
    centres = [(min(max(int(y / 2), 0), height - 1), min(max(int(x / 2), 0), width - 1)) for x, y, _ in sides]
    for subject in sample.subjects:
        mask_HW = sample.segments_HW == subject.segment
        _, y1, _, y2 = mask_box(mask_HW)
        counts.heights[round(100 * (y2 - y1) / height)] += 1
        if faces is not None:
            counts.faceless[not any(mask_HW[place] for place in centres)] += 1


def binned(counter: Mapping[int, int], bins: tuple[int, ...]) -> dict[str, int]:
    """A counter of numbers by bins, each from its bound to the next; what is less counts in the first."""
    found = dict.fromkeys(bins, 0)
    for value, num in counter.items():
        found[max(bound for bound in bins if bound <= max(value, bins[0]))] += num
    spans = [str(low) if low == high - 1 else f"{low}-{high - 1}" for low, high in pairwise(bins)]
    ends = [*spans, f"{bins[-1]}+"]
    return dict(zip(ends, found.values(), strict=True))


def quantile(counter: Mapping[int, int], share: float) -> int:
    """The smallest value that at least this share of all do not exceed; 0 of nothing."""
    values = sorted(counter)
    total = np.cumsum([counter[value] for value in values])
    return values[int(np.searchsorted(total, share * total[-1]))] if values else 0


def summary(found: Statistics) -> dict[str, Any]:
    """The numbers as plain JSON."""
    c = found.counts
    words, pictures = sum(c.words.values()), sum(c.lengths.values())
    sides = Counter[int]()
    for size, num in c.sizes.items():
        sides[min(size)] += num
    numbers: dict[str, Any] = {
        "folder": str(found.folder.root),
        "layout": found.folder.kind,
        "split": found.split,
        "pictures": found.num,
        "unreadable": len(c.unreadable),
        "subjects": sum(num * many for many, num in c.subjects.items()),
        "pictures_by_subjects": {str(many): c.subjects[many] for many in sorted(c.subjects)},
        "captions": {
            "words_mean": round(words / max(1, pictures), 2),
            "words_median": quantile(c.lengths, 0.5),
            "words_max": max(c.lengths, default=0),
            "different_words": len(c.words),
            "most_frequent": _most_frequent(c.words),
            "tokens_max": max(c.tokens, default=0),
            "tokens_read": found.max_tokens,
            "cut": sum(num for length, num in c.tokens.items() if length > found.max_tokens),
        },
        "nouns": _most_frequent(c.nouns),
        "identities": {
            "known": len(c.identities),
            "in_one_picture": sum(num == 1 for num in c.identities.values()),
            "pictures_median": quantile(Counter(c.identities.values()), 0.5),
            "pictures_max": max(c.identities.values(), default=0),
        },
        "looked_at": len(found.looked_at),
        "most_frequent_sizes": _most_frequent(
            Counter({f"{w} x {h}": num for (w, h), num in c.sizes.items()})
        ),
        "pictures_by_shorter_side": binned(sides, SIDE_BINS),
        "subjects_by_share_of_height": binned(c.heights, SHARE_BINS),
    }
    if found.with_faces:
        numbers["faces"] = {
            "found": sum(c.faces.values()),
            "by_side": binned(c.faces, FACE_BINS),
            "by_turn": binned(c.turns, TURN_BINS),
            "by_tilt": binned(c.tilts, TILT_BINS),
            "subjects_without": c.faceless[True],
            "subjects_looked_at": c.faceless.total(),
        }
    return numbers


def _most_frequent(counter: Counter[str]) -> dict[str, int]:
    """The first of them; of equals by the alphabet, in whatever order they were counted."""
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:TOP])


def text(numbers: Mapping[str, Any]) -> str:
    """The numbers for a terminal."""
    n, captions, identities = numbers, numbers["captions"], numbers["identities"]
    rows = [("pictures", f"{n['pictures']}"), ("layout", n["layout"])]
    if n["unreadable"]:
        rows.append(("unreadable", f"{n['unreadable']} (data check names them)"))
    rows += [(f"with {many} subjects", str(num)) for many, num in n["pictures_by_subjects"].items()]
    mean, most = captions["words_mean"], captions["words_max"]
    rows.append(
        (
            "words in captions",
            f"{mean:.1f} a picture, at most {most}; {captions['different_words']} different",
        )
    )
    rows.append(("cut captions", f"{captions['cut']} have more than {captions['tokens_read']} tokens"))
    rows.append(("most frequent", _listed(captions["most_frequent"])))
    rows.append(("nouns", _listed(n["nouns"])))
    if identities["known"]:
        rows.append(
            (
                "identities",
                f"{identities['known']}, {identities['in_one_picture']} of them in one picture; "
                f"median {identities['pictures_median']}, most {identities['pictures_max']}",
            )
        )
    rows.append(("looked at", f"{n['looked_at']} pictures"))
    rows.append(("shorter side", _listed(n["pictures_by_shorter_side"])))
    rows.append(("subject's height in %", _listed(n["subjects_by_share_of_height"])))
    if "faces" in n:
        faces = n["faces"]
        rows.append(("faces by pixels", _listed(faces["by_side"])))
        rows.append(("turned, nose off in %", _listed(faces["by_turn"])))
        rows.append(("tilted by degrees", _listed(faces["by_tilt"])))
        rows.append(
            ("without a face", f"{faces['subjects_without']} of {faces['subjects_looked_at']} subjects")
        )
    return "\n".join(f"{name:<23}{value}" for name, value in rows if value)


def _listed(counted: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({num})" for name, num in counted.items() if num)
