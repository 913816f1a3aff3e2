"""What may be wrong with pictures, in levels, and what each metric must say to it.

A fault of pixels makes new pictures; every other one chooses, for each job, which picture stands in for it.
N jobs, H W pixels, 3 RGB uint8.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from worlds import AVERAGED, CLOTHES, DRAWN, MISSING, PLACES, PORTRAITS, TWICE, World, neighbour

from fdlab.benchmarks.benchmark import Benchmark
from fdlab.benchmarks.jobs import Job
from fdlab.randomness import numpy_rng

UP, DOWN, SAME, NOT_UP = "up", "down", "same", "not up"
SHARES = (0.25, 0.5, 1.0)
REFERENCE = "references"

Picture = tuple[str, int]
"""A set of pictures and the place in it."""
Choice = Callable[[float], list[Picture]]
"""From a level to the picture of every job."""


def blur(image_HW3: np.ndarray, sigma: float, seed: int) -> np.ndarray:
    """Gaussian blur, sigma in pixels."""
    return _uint8(gaussian_filter(image_HW3.astype(np.float64), (sigma, sigma, 0)))


def noise(image_HW3: np.ndarray, deviation: float, seed: int) -> np.ndarray:
    """White noise, its standard deviation in grey levels of 255."""
    return _uint8(image_HW3 + deviation * numpy_rng(seed, "noise").normal(size=image_HW3.shape))


def jpeg(image_HW3: np.ndarray, quality: float, seed: int) -> np.ndarray:
    """Through JPEG of a quality and back."""
    stream = io.BytesIO()
    Image.fromarray(image_HW3).save(stream, "JPEG", quality=int(quality))
    return np.asarray(Image.open(stream).convert("RGB"))


def _uint8(pixels: np.ndarray) -> np.ndarray:
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Fault:
    """One fault: its levels from mild to strong (level 0 is none) and the direction of every metric it bears
    on; a metric that is not named may do as it likes."""

    name: str
    levels: tuple[float, ...]
    unit: str
    expected: dict[str, str]
    change: Callable[[np.ndarray, float, int], np.ndarray] | None = None
    """Of pixels."""
    choice: Choice | None = None
    base: Choice | None = None
    """What stands at level 0, where that is not the drawn pictures."""
    exact: tuple[str, ...] = field(default=())
    """Of those that must stay the same, which by construction must do so to the last digit."""


DISTANCES = ("frechet_distance", "kernel_distance", "cmmd")
ALONE = ("identity_similarity", "identity_heldout", "identity_margin", "identity_rank1", "identity_auc")
FOUND = ("face_detection_rate", "face_count_accuracy")
PROMPT = ("prompt_accuracy", "clip_score")
PAIR = (
    "identity_similarity",
    "identity_similarity_min",
    "identity_heldout",
    "identity_margin",
    "identity_auc",
)


def _all(direction: str, *names: str) -> dict[str, str]:
    return dict.fromkeys(names, direction)


def pixels() -> list[Fault]:
    """Blur, noise and JPEG."""
    worse = _all(UP, *DISTANCES) | _all(DOWN, *ALONE) | _all(NOT_UP, "copy_paste", *PROMPT, *FOUND)
    return [
        Fault("blur", (1.0, 2.0, 4.0), "sigma, pixels", worse, blur),
        Fault("noise", (8.0, 24.0, 72.0), "deviation of 255", worse, noise),
        Fault("JPEG", (90.0, 50.0, 10.0), "quality", worse, jpeg),
    ]


def _nested(num: int, share: float, *purpose: str) -> np.ndarray:
    """Which of `num` are chosen at a share: (num) bool; what a small share holds, a larger one holds too."""
    rank = numpy_rng(0, "chosen", *purpose).permutation(num)
    return np.asarray(rank < round(share * num))


def single(world: World, bench: Benchmark, jobs: list[Job]) -> list[Fault]:
    """What may be wrong with pictures of one person, beside pixels."""
    place = {job.id: n for n, job in enumerate(jobs)}
    number = {subject.id: k for k, subject in enumerate(bench.subjects)}
    prompt = {entry.id: k for k, entry in enumerate(bench.prompts)}

    def at(subject: int, asked: int, index: int) -> int:
        return place[f"{bench.subjects[subject].id}-{bench.prompts[asked].id}-{index}"]

    def each(
        other: Callable[[int, int, int], Picture], chosen: Callable[[int, int, int], bool]
    ) -> list[Picture]:
        cells = [(number[job.subject.id], prompt[job.prompt.id], job.index) for job in jobs]
        return [other(*cell) if chosen(*cell) else (DRAWN, at(*cell)) for cell in cells]

    def wrong_person(share: float) -> list[Picture]:
        # All people of a prompt at once: each picture of the set is still used once.
        of_prompt = _nested(world.prompts, share, "prompts")
        return each(
            lambda s, p, i: (DRAWN, at(neighbour(world, s), p, i)), lambda s, p, i: bool(of_prompt[p])
        )

    def wrong_prompt(share: float) -> list[Picture]:
        # All prompts of a person at once, by one: each picture is still used once.
        of_subject = _nested(world.people, share, "people")
        return each(
            lambda s, p, i: (DRAWN, at(s, (p + 1) % world.prompts, i)), lambda s, p, i: bool(of_subject[s])
        )

    def pasted(share: float) -> list[Picture]:
        of_cell = _nested(len(jobs), share, "jobs")
        return each(lambda s, p, i: (REFERENCE, s), lambda s, p, i: bool(of_cell[at(s, p, i)]))

    def portraits(share: float) -> list[Picture]:
        of_cell = _nested(len(jobs), share, "jobs")
        return [
            (REFERENCE, s) if chosen else (PORTRAITS, n)
            for n, (s, chosen) in enumerate(
                zip((number[job.subject.id] for job in jobs), of_cell, strict=True)
            )
        ]

    def one_seed(share: float) -> list[Picture]:
        of_cell = _nested(world.people * world.prompts, share, "pairs").reshape(world.people, world.prompts)
        return each(lambda s, p, i: (DRAWN, at(s, p, 0)), lambda s, p, i: bool(of_cell[s, p]))

    def one_picture(share: float) -> list[Picture]:
        # Whatever the prompt, always the same picture of somebody.
        of_subject = _nested(world.people, share, "people")
        return each(lambda s, p, i: (DRAWN, at(s, s % world.prompts, 0)), lambda s, p, i: bool(of_subject[s]))

    def one_for_all(share: float) -> list[Picture]:
        of_cell = _nested(world.people * world.prompts, share, "pairs").reshape(world.people, world.prompts)
        return each(lambda s, p, i: (DRAWN, 0), lambda s, p, i: bool(of_cell[s, p]))

    def averaged(share: float) -> list[Picture]:
        name = next(name for name, value in AVERAGED.items() if value == share)
        return [(name, n) for n in range(len(jobs))]

    identity = (*ALONE, "identity_similarity_detected")
    still = (*PROMPT, *DISTANCES, *FOUND)
    share = "share of pictures"
    return [
        Fault(
            "wrong person", SHARES, share, _all(DOWN, *identity) | _all(SAME, *still, "diversity"),
            choice=wrong_person, exact=(*still, "diversity"),
        ),
        Fault(
            "wrong prompt", SHARES, share, _all(DOWN, *PROMPT) | _all(SAME, *identity, *FOUND, *DISTANCES,
            "copy_paste", "diversity"), choice=wrong_prompt,
            exact=(*identity, *FOUND, *DISTANCES, "copy_paste", "diversity"),
        ),
        Fault(
            "reference pasted in", SHARES, share,
            _all(UP, "copy_paste", "identity_similarity", *DISTANCES) | _all(DOWN, *PROMPT, "diversity")
            | _all(NOT_UP, "identity_heldout"), choice=pasted,
        ),
        Fault(
            "reference among portraits", SHARES, share,
            _all(UP, "copy_paste", "identity_similarity") | _all(DOWN, "diversity")
            | _all(NOT_UP, "identity_heldout"), choice=portraits, base=portraits,
        ),
        Fault(
            "faces averaged", tuple(AVERAGED.values()), "share of another's face",
            _all(DOWN, *identity) | _all(SAME, *FOUND, *PROMPT) | _all(NOT_UP, "copy_paste"), choice=averaged,
        ),
        Fault(
            "one seed for all", SHARES, "share of prompts",
            _all(DOWN, "diversity") | _all(UP, *DISTANCES) | _all(SAME, *identity, *PROMPT, *FOUND),
            choice=one_seed,
        ),
        Fault(
            "one picture a person", SHARES, "share of people",
            _all(DOWN, "diversity", *PROMPT) | _all(UP, *DISTANCES), choice=one_picture,
        ),
        Fault(
            "one picture for all", SHARES, "share of prompts",
            _all(DOWN, "diversity", *PROMPT, *ALONE) | _all(UP, *DISTANCES), choice=one_for_all,
        ),
    ]  # fmt: skip


def pairs(world: World, bench: Benchmark, jobs: list[Job]) -> list[Fault]:
    """What may be wrong with pictures of two."""
    place = {job.id: n for n, job in enumerate(jobs)}
    number = {subject.id: k for k, subject in enumerate(bench.subjects)}

    def mixed(name: str) -> Choice:
        return lambda share: [
            (name if chosen else DRAWN, n) for n, chosen in enumerate(_nested(len(jobs), share, "jobs"))
        ]

    def stranger(share: float) -> list[Picture]:
        found = []
        for n, (job, chosen) in enumerate(zip(jobs, _nested(len(jobs), share, "jobs"), strict=True)):
            first, second = (number[subject.id] for subject in job.subjects)
            other = sorted((first, neighbour(world, second, (first,))))
            members = "-".join(bench.subjects[k].id for k in other)
            found.append((DRAWN, place[f"{members}-{job.prompt.id}-{job.index}"] if chosen else n))
        return found

    def averaged(share: float) -> list[Picture]:
        name = next(name for name, value in AVERAGED.items() if value == share)
        return [(name, n) for n in range(len(jobs))]

    whole = (*PAIR, "identity_blending", *FOUND, *PROMPT, *DISTANCES)
    share = "share of pictures"
    return [
        Fault("places changed", SHARES, share, _all(SAME, *whole), choice=mixed(PLACES)),
        Fault("clothes changed", SHARES, share, _all(SAME, *whole), choice=mixed(CLOTHES)),
        Fault(
            "one missing", SHARES, share,
            _all(DOWN, "identity_similarity", "identity_similarity_min", "identity_heldout", *FOUND,
                 "prompt_accuracy") | _all(SAME, "identity_similarity_detected") | _all(UP, *DISTANCES),
            choice=mixed(MISSING),
        ),
        Fault(
            "a stranger for one", SHARES, share,
            _all(DOWN, *PAIR) | _all(SAME, *FOUND, *PROMPT) | _all(NOT_UP, "identity_blending"),
            choice=stranger,
        ),
        Fault(
            "one person twice", SHARES, share,
            _all(DOWN, *PAIR) | _all(UP, "identity_blending") | _all(SAME, *FOUND, "prompt_accuracy"),
            choice=mixed(TWICE),
        ),
        Fault(
            "faces averaged", tuple(AVERAGED.values()), "share of the other's face",
            _all(DOWN, *PAIR) | _all(UP, "identity_blending") | _all(SAME, *FOUND, *PROMPT), choice=averaged,
        ),
    ]  # fmt: skip
