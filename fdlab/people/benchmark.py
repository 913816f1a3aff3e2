"""The embedded benchmarks: held-out people, prompts by category, references, and true renders of every
prompt; one person a picture, or two.

Identities start at `HELD_OUT`, which no dataset reaches. Faces are framed so that a recogniser can
judge them: about half the picture's height (a third with two), yaw mostly within 20 degrees.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from fdlab import files
from fdlab.errors import unknown
from fdlab.people import appearance, picture, prompts
from fdlab.people.appearance import Appearance
from fdlab.people.identity import HELD_OUT, identity
from fdlab.people.picture import VERSION, png_bytes
from fdlab.people.prompts import Prompt, Wish
from fdlab.progress import track
from fdlab.randomness import numpy_rng
from fdlab.workers import in_processes

SEED = 7
SIZE = 128
SUBJECTS = 40
SCALE = (31.5, 36.0)
"""Pixels a decimetre: a face about half the picture's height."""
PAIR_SCALE = (22.0, 25.0)
"""The same with two people: a face about a third of the height, as data sets show it beside another."""
PROMPTS = prompts.SINGLE


@dataclass(frozen=True)
class Embedded:
    """One embedded benchmark: `num_subjects` held-out people from the `first` on, `size` of them in a
    picture."""

    num_subjects: int
    prompts: tuple[Prompt, ...]
    size: int = 1
    first: int = 0

    @property
    def subjects(self) -> range:
        """Numbers of its people among the held-out ones."""
        return range(self.first, self.first + self.num_subjects)

    @property
    def groups(self) -> list[tuple[int, ...]]:
        """Whom pictures show: everybody alone, or all groups of `size`."""
        return list(combinations(self.subjects, self.size))


EMBEDDED = {
    "people_single": Embedded(SUBJECTS, prompts.SINGLE),
    "people_multi": Embedded(12, prompts.PAIRS, size=2),
    "people_validation": Embedded(12, prompts.SINGLE, first=1000),
}


def embedded(name: str) -> Embedded:
    """Look an embedded benchmark up; UserError with the nearest match for another name."""
    if name not in EMBEDDED:
        raise unknown("embedded benchmark", name, EMBEDDED)
    return EMBEDDED[name]


def subjects_per_picture(name: str) -> int:
    """How many people a picture of an embedded benchmark shows. Raises: UserError."""
    return embedded(name).size


def _look(rng: np.random.Generator, asked: Wish) -> Appearance:
    look = replace(appearance.draw(rng, 1.0), hat=None, scarf=None, expression="neutral", pattern="plain")
    return replace(
        look,
        hat=asked.hat,
        scarf=asked.scarf,
        expression=asked.expression or "neutral",
        garment=asked.garment or look.garment,
        color=asked.color or look.color,
    )


def spec(subject: int, purpose: str, prompt: int | None = None, index: int = 0) -> picture.Spec:
    """The spec of a reference, a held-out picture or a true render of one person."""
    rng = numpy_rng(SEED, f"benchmark-{purpose}", subject, -1 if prompt is None else prompt, index)
    asked = Prompt("", "studio") if prompt is None else PROMPTS[prompt]
    scale, eyes, right = rng.uniform(*SCALE), rng.uniform(0.39, 0.45), rng.normal(0, 0.15)
    framing = picture.Framing(float(scale), float(eyes), float(right))
    people = ((HELD_OUT + subject, _look(rng, asked.wishes[0])),)
    return picture.Spec(people, asked.scene, asked.hour, asked.style, framing, int(rng.integers(2**31)))


def group_spec(name: str, group: tuple[int, ...], prompt: int, index: int = 0) -> picture.Spec:
    """The spec of a true render of a group, the first named on the left."""
    if len(group) == 1:
        return spec(group[0], "real", prompt, index)
    rng = numpy_rng(SEED, f"{name}-real", *group, prompt, index)
    asked = embedded(name).prompts[prompt]
    framing = picture.Framing(float(rng.uniform(*PAIR_SCALE)), float(rng.uniform(0.39, 0.45)))
    people = tuple(
        (HELD_OUT + subject, _look(rng, wish)) for subject, wish in zip(group, asked.wishes, strict=True)
    )
    return picture.Spec(people, asked.scene, asked.hour, asked.style, framing, int(rng.integers(2**31)))


def manifest(name: str) -> dict[str, Any]:
    """benchmark.json of an embedded benchmark; UserError with the nearest match for another name."""
    made = embedded(name)
    subjects = [
        {
            "id": _id(k),
            "noun": identity(HELD_OUT + k).noun,
            "identity": HELD_OUT + k,
            "references": [f"references/{_id(k)}.png"],
            "heldout": [f"heldout/{_id(k)}.png"],
        }
        for k in made.subjects
    ]
    asked = [
        {"id": _prompt_id(k), "category": p.category, "text": p.text, "truth": p.truth}
        for k, p in enumerate(made.prompts)
    ]
    groups = {} if made.size == 1 else {"groups": [[_id(k) for k in group] for group in made.groups]}
    return {
        "name": name,
        "version": f"1.{VERSION}",
        "size": SIZE,
        "seed": SEED,
        "images_per_prompt": 1,
        "subjects": subjects,
        "prompts": asked,
        "real": "real/{subject}-{prompt}-{index}.png",
        **groups,
    }


def _id(subject: int) -> str:
    return f"s{subject:02d}"


def _prompt_id(prompt: int) -> str:
    return f"p{prompt:02d}"


@dataclass(frozen=True)
class _Job:
    """The references of one person, or the true renders of a group's `prompts`."""

    root: Path
    name: str
    group: tuple[int, ...]
    prompts: tuple[int, ...] | None

    @property
    def paths(self) -> list[Path]:
        """The pictures that it stands for."""
        if self.prompts is None:
            folders = ("references", "heldout", "masks")
            return [self.root / folder / f"{_id(self.group[0])}.png" for folder in folders]
        members = "-".join(map(_id, self.group))
        return [self.root / "real" / f"{members}-{_prompt_id(p)}-0.png" for p in self.prompts]

    @property
    def is_done(self) -> bool:
        """Whether none of them is missing or empty."""
        return all(map(_is_there, self.paths))


def _jobs(
    root: Path, name: str, subjects: Collection[str] | None, prompts: Collection[str] | None
) -> list[_Job]:
    """What there is to render of a benchmark for these subjects and prompts; None is all."""
    made = embedded(name)
    people = [k for k in made.subjects if subjects is None or _id(k) in subjects]
    asked = tuple(k for k in range(len(made.prompts)) if prompts is None or _prompt_id(k) in prompts)
    jobs = [_Job(root, name, (k,), None) for k in people]
    return jobs + [_Job(root, name, group, asked) for group in made.groups if set(group).issubset(people)]


def _write(job: _Job) -> int:
    """Render what is missing of a job; return how many pictures it stands for."""
    if job.prompts is None:
        _write_references(job)
        return 1
    for prompt, path in zip(job.prompts, job.paths, strict=True):
        if not _is_there(path):
            made = picture.render(group_spec(job.name, job.group, prompt), SIZE)
            files.write_bytes(path, png_bytes(made.image_HW3), flush=False)
    return len(job.prompts)


def _write_references(job: _Job) -> None:
    if job.is_done:
        return
    (subject,), (reference, held, mask) = job.group, job.paths
    files.write_bytes(held, png_bytes(picture.render(spec(subject, "heldout"), SIZE).image_HW3), flush=False)
    made = picture.render(spec(subject, "reference"), SIZE)
    files.write_bytes(mask, png_bytes((made.segments_HW > 0).astype(np.uint8) * 255), flush=False)
    files.write_bytes(reference, png_bytes(made.image_HW3), flush=False)


PNG_END = b"IEND\xaeB`\x82"


def _is_there(path: Path) -> bool:
    """Whether a picture is there to its end."""
    if not path.is_file() or path.stat().st_size < len(PNG_END):
        return False
    with path.open("rb") as stream:
        stream.seek(-len(PNG_END), os.SEEK_END)
        return stream.read() == PNG_END


def _has_manifest(root: Path) -> bool:
    """Whether there is a manifest that is not torn."""
    try:
        json.loads((root / "benchmark.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def render(
    root: Path | str,
    name: str,
    subjects: Collection[str] | None = None,
    prompts: Collection[str] | None = None,
    workers: int = 0,
) -> None:
    """Render an embedded benchmark into `root`, or the pictures of some `subjects` and `prompts` (ids) alone,
    going on where a call stopped.

    benchmark.json comes when all of it is there. What is missing or empty of a complete one is rendered
    again; what is there is not written to. Failure where a process is killed.
    """
    root, wanted = Path(root), manifest(name)
    jobs = _jobs(root, name, subjects, prompts)
    missing = [job for job in jobs if not job.is_done]
    if missing:
        total = sum(1 if job.prompts is None else len(job.prompts) for job in missing)
        done = (1 for n in in_processes(_write, missing, workers) for _ in range(n))
        for _ in track(done, f"rendering {name}", total):
            pass
        files.flush_all()
    if not _has_manifest(root) and all(job.is_done for job in _jobs(root, name, None, None)):
        files.write_json(root / "benchmark.json", wanted)
