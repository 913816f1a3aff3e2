"""Pictures with a known truth: two small benchmarks of rendered people, and true renders that play a method.

The true pictures and those of the method are two different photographs of the same people for the same
prompts: what a method without any fault would draw. Distances between them are what chance leaves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from fdlab.benchmarks import benchmark as benchmarks
from fdlab.benchmarks import jobs
from fdlab.benchmarks.benchmark import Benchmark
from fdlab.files import write_bytes, write_json
from fdlab.people import benchmark as embedded
from fdlab.people import picture
from fdlab.people.identity import HELD_OUT, Identity, identity
from fdlab.people.picture import png_bytes
from fdlab.progress import track
from fdlab.workers import in_processes

TRUE, DRAWN = "real", "drawn"
AVERAGED = {f"{share:.0%} of another": share for share in (0.25, 0.5)}
PORTRAITS = "portraits"
PLACES, CLOTHES, MISSING, TWICE = "places changed", "clothes changed", "one missing", "one person twice"


@dataclass(frozen=True)
class World:
    """One benchmark of the experiment: the first `people` and `prompts` of an embedded one."""

    name: str
    people: int
    prompts: int
    images: int = 1

    @property
    def size(self) -> int:
        """People a picture."""
        return embedded.subjects_per_picture(self.name)

    @property
    def sets(self) -> tuple[str, ...]:
        """Every set of pictures that is rendered, one picture a job each."""
        if self.size == 1:
            return TRUE, DRAWN, *AVERAGED, PORTRAITS
        return TRUE, DRAWN, *AVERAGED, PLACES, CLOTHES, MISSING, TWICE

    @property
    def groups(self) -> list[tuple[int, ...]]:
        return list(combinations(range(self.people), self.size))


SINGLE = World("people_single", 12, 8, images=2)
PAIRS = World("people_multi", 7, 6)


def spec(world: World, group: tuple[int, ...], prompt: int, index: int, name: str) -> picture.Spec:
    """The spec of one picture of the set `name`; the faulty differ from DRAWN by their fault."""
    if name == PORTRAITS:
        # Whatever the prompt, a plain portrait such as the reference and the held-out picture are.
        return embedded.spec(group[0], PORTRAITS, None, prompt * world.images + index)
    made = embedded.group_spec(world.name, group, prompt, index + (0 if name == TRUE else world.images))
    if name == PLACES:
        return replace(made, people=made.people[::-1])
    if name == CLOTHES:
        # With them go expression and pose: all of a look.
        (first, look), (second, other) = made.people
        return replace(made, people=((first, other), (second, look)))
    if name == MISSING:
        # Every second picture lacks the first person, the others the second.
        return replace(made, people=made.people[prompt % 2 :][:1])
    if name == TWICE:
        (first, look), (_, other) = made.people
        return replace(made, people=((first, look), (first, other)))
    return made


def average(one: Identity, other: Identity, share: float) -> Identity:
    """Somebody between two people: shape, skin, brows and age in proportion, the rest (hair style, glasses,
    beard) of the first."""
    mine, theirs = dict(one.weights), dict(other.weights)
    weights = {
        name: (1 - share) * mine.get(name, 0.0) + share * theirs.get(name, 0.0) for name in {**mine, **theirs}
    }

    def between(a: Any, b: Any) -> Any:
        mixed = (1 - share) * np.asarray(a) + share * np.asarray(b)
        return tuple(mixed) if mixed.ndim else float(mixed)

    # Albedos are averaged as their logarithms, as they are drawn.
    colours = {
        name: tuple(np.exp(between(np.log(getattr(one, name)), np.log(getattr(other, name)))))
        for name in ("skin", "lip", "hair_tint")
    }
    numbers = ("age", "brow_weight", "brow_arch", "brow_height", "freckles", "makeup")
    rest = {name: between(getattr(one, name), getattr(other, name)) for name in numbers}
    return replace(one, weights=tuple(weights.items()), **colours, **rest)


def neighbour(world: World, subject: int, besides: tuple[int, ...] = ()) -> int:
    """Another of the world's people that is not in `besides`: the next, of the same noun where that can be.

    Without `besides` everybody is the neighbour of exactly one.
    """
    order = [(subject + k) % world.people for k in range(1, world.people)]
    order = [other for other in order if other not in besides]
    nouns = [identity(HELD_OUT + k).noun for k in range(world.people)]
    if not besides and min(nouns.count(noun) for noun in nouns) < 2:
        return order[0]
    same = [other for other in order if nouns[other] == nouns[subject]]
    return (same or order)[0]


def render(world: World, group: tuple[int, ...], prompt: int, index: int, name: str, size: int) -> np.ndarray:
    """One picture, (size, size, 3) uint8."""
    wanted = spec(world, group, prompt, index, name)
    if name not in AVERAGED:
        return picture.render(wanted, size).image_HW3
    # Alone somebody is averaged with their neighbour, of two each with the other.
    partners = group[::-1] if len(group) == 2 else (neighbour(world, group[0]),)
    mixed = {
        HELD_OUT + own: average(identity(HELD_OUT + own), identity(HELD_OUT + other), AVERAGED[name])
        for own, other in zip(group, partners, strict=True)
    }
    # A spec names people by number; nobody has the number of an average.
    with mock.patch.object(picture, "identity", lambda number: mixed[number]):
        return picture.render(wanted, size).image_HW3


@dataclass(frozen=True)
class _One:
    """A picture to be rendered, as worker processes are told."""

    world: World
    group: tuple[int, ...]
    prompt: int
    index: int
    name: str
    size: int = embedded.SIZE

    @property
    def path(self) -> str:
        members = "-".join(f"s{k:02d}" for k in self.group)
        if self.prompt < 0:
            return f"{self.name}/{members}.png"
        return f"{self.name}/{members}-p{self.prompt:02d}-{self.index}.png"

    def image(self) -> np.ndarray:
        if self.prompt < 0:
            purpose = {"references": "reference", "heldout": "heldout"}[self.name]
            return picture.render(embedded.spec(self.group[0], purpose), self.size).image_HW3
        return render(self.world, self.group, self.prompt, self.index, self.name, self.size)


def _write(job: tuple[Path, _One]) -> None:
    folder, one = job
    write_bytes(folder / one.path, png_bytes(one.image()))


def make(world: World, folder: Path, sets: Iterable[str] | None = None, workers: int = 2) -> Benchmark:
    """Render a world's benchmark and `sets` (by default all) into `folder`; what is there is kept."""
    wanted = [
        _One(world, (k,), -1, 0, name) for k in range(world.people) for name in ("references", "heldout")
    ]
    wanted += [
        _One(world, group, prompt, index, name)
        for name in (world.sets if sets is None else sets)
        for group in world.groups
        for prompt in range(world.prompts)
        for index in range(world.images)
    ]
    missing = [(folder, one) for one in wanted if not (folder / one.path).is_file()]
    for _ in track(in_processes(_write, missing, workers), f"rendering {world.name}", len(missing)):
        pass
    write_json(folder / benchmarks.MANIFEST, _manifest(world))
    return benchmarks.load(folder)


def _manifest(world: World) -> dict[str, Any]:
    whole = embedded.manifest(world.name)
    subjects = whole["subjects"][: world.people]
    ids = [subject["id"] for subject in subjects]
    groups = {} if world.size == 1 else {"groups": [[ids[k] for k in group] for group in world.groups]}
    return {
        **whole,
        "name": f"{world.name}_metrics",
        "images_per_prompt": world.images,
        "subjects": subjects,
        "prompts": whole["prompts"][: world.prompts],
        **groups,
    }


def paths(bench: Benchmark, name: str) -> list[Path]:
    """A set's pictures in the order of the benchmark's jobs."""
    return [bench.folder / name / job.file for job in jobs.jobs(bench)]
