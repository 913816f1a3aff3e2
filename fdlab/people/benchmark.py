"""The embedded benchmarks: held-out people, prompts by category, references, and true renders of every
prompt; one person a picture, or two.

Identities start at `dataset.HELD_OUT`, which no dataset reaches. Faces are framed so that a recogniser can
judge them: about half the picture's height (a third with two), yaw mostly within 20 degrees.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from fdlab import files
from fdlab.errors import unknown
from fdlab.people import appearance, picture, prompts
from fdlab.people.appearance import Appearance
from fdlab.people.dataset import HELD_OUT, VERSION, ignore_interrupts, png_bytes
from fdlab.people.identity import identity
from fdlab.people.prompts import Prompt, Wish
from fdlab.randomness import numpy_rng

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
        {"id": f"p{k:02d}", "category": p.category, "text": p.text, "truth": p.truth}
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


_Job = tuple[Path, str, tuple[int, ...], bool]
"""Root, benchmark, group, and whether its true renders are wanted (else the references of one person)."""


def _write(job: _Job) -> int:
    """Render what is missing of a job; return how many pictures it stands for."""
    root, name, group, real = job
    if not real:
        return _write_references(root, group[0])
    members = "-".join(_id(k) for k in group)
    num_prompts = len(embedded(name).prompts)
    for p in range(num_prompts):
        path = root / "real" / f"{members}-p{p:02d}-0.png"
        if not path.exists():
            made = picture.render(group_spec(name, group, p), SIZE)
            files.write_bytes(path, png_bytes(made.image_HW3), flush=False)
    return num_prompts


def _write_references(root: Path, subject: int) -> int:
    name = f"{_id(subject)}.png"
    if not (root / "references" / name).exists():
        held = picture.render(spec(subject, "heldout"), SIZE)
        files.write_bytes(root / "heldout" / name, png_bytes(held.image_HW3), flush=False)
        made = picture.render(spec(subject, "reference"), SIZE)
        mask = (made.segments_HW > 0).astype(np.uint8) * 255
        files.write_bytes(root / "masks" / name, png_bytes(mask), flush=False)
        files.write_bytes(root / "references" / name, png_bytes(made.image_HW3), flush=False)
    return 1


def _counted(done: Iterator[int]) -> Iterator[int]:
    for n in done:
        yield from range(n)


def render(root: Path | str, name: str, workers: int = 0) -> None:
    """Render an embedded benchmark into `root`, going on where a call stopped; benchmark.json comes last."""
    from fdlab.progress import track

    root, wanted, made = Path(root), manifest(name), embedded(name)
    if (root / "benchmark.json").exists():
        return
    jobs: list[_Job] = [(root, name, (k,), False) for k in made.subjects]
    jobs += [(root, name, group, True) for group in made.groups]
    total = made.num_subjects + len(made.groups) * len(made.prompts)
    workers = workers or os.cpu_count() or 1
    if workers > 1:
        with multiprocessing.get_context("spawn").Pool(min(workers, len(jobs)), ignore_interrupts) as pool:
            for _ in track(_counted(pool.imap_unordered(_write, jobs)), f"rendering {name}", total):
                pass
    else:
        for _ in track(_counted(map(_write, jobs)), f"rendering {name}", total):
            pass
    files.flush_all()
    files.write_json(root / "benchmark.json", wanted)
