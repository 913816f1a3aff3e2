"""A benchmark of several people a picture: coloured squares in three places, and a detector that reads them.

A "face" is a place that is not dark; its embedding is its mean colour, centred. Who stands where is drawn.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fdlab.benchmarks.jobs import Job
from fdlab.measure.networks import Extractors
from fdlab.randomness import numpy_rng

PLACES, SIDE = 3, 8
SIZE = PLACES * SIDE


def colour(subject: int) -> np.ndarray:
    """The subject's own colour, never dark."""
    return numpy_rng(7, "colour", subject).integers(60, 250, 3)


def picture(people: Sequence[np.ndarray | None], *noise: int | str) -> np.ndarray:
    """A picture of people of given colours (None: an empty place) in drawn places."""
    rng = numpy_rng(3, "crowd", *noise)
    image = np.zeros((SIZE, SIZE, 3), np.int64)
    for place, person in zip(rng.permutation(PLACES), people, strict=False):
        if person is not None:
            spot = image[SIDE : 2 * SIDE, place * SIDE : (place + 1) * SIDE]
            spot[:] = person + rng.integers(-4, 5, spot.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def write_benchmark(root: Path, subjects: int = 5, prompts: int = 3, groups: Any = "pairs") -> dict[str, Any]:
    """Write a benchmark folder; returns its manifest."""
    for folder in ("references", "heldout"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    people = []
    for s in range(subjects):
        name = f"s{s:02d}"
        for folder in ("references", "heldout"):
            Image.fromarray(picture([colour(s)], folder, s)).save(root / folder / f"{name}.png")
        people.append({
            "id": name, "noun": ("woman", "man")[s % 2], "identity": s,
            "references": [f"references/{name}.png"], "heldout": [f"heldout/{name}.png"],
        })  # fmt: skip
    text = "a {noun} <|image|> and a {noun2} <|image|> in place"
    manifest = {
        "name": "crowd", "version": "1", "size": SIZE, "seed": 5, "images_per_prompt": 1, "subjects": people,
        "groups": groups,
        "prompts": [{"id": f"p{p:02d}", "category": f"c{p}", "text": f"{text} {p}"} for p in range(prompts)],
    }  # fmt: skip
    (root / "benchmark.json").write_text(json.dumps(manifest))
    return manifest


@dataclass(frozen=True)
class Face:
    box: tuple[float, float, float, float]
    score: float
    landmarks_52: np.ndarray


class Faces:
    name, sha256 = "crowd", "4" * 64

    def detect(self, images_BHW3: np.ndarray) -> list[list[Face]]:
        return [
            [
                Face((p * SIDE, SIDE, (p + 1) * SIDE, 2 * SIDE), 0.9, np.zeros((5, 2), np.float32))
                for p in range(PLACES)
                if image[SIDE + 4, p * SIDE + 4].max() > 20
            ]
            for image in images_BHW3
        ]

    def embed(self, images_BHW3: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
        parts = [
            image[SIDE : 2 * SIDE, int(face.box[0]) : int(face.box[2])].astype(float).mean((0, 1))
            for image, face in zip(images_BHW3, faces, strict=True)
        ]
        return np.array(parts) - 155.0


def extractors() -> Extractors:
    return Extractors(Faces())


class Painter:
    """A method whose faults are set.

    `mixed`: 0 paints everybody's own colour, 1 the mean of all in the picture; `strangers`: how many are
    replaced by somebody else; `missing`: how many are left out; `twice` paints the first person everywhere.
    """

    def __init__(
        self, mixed: float = 0.0, strangers: int = 0, missing: int = 0, extra: int = 0, twice: bool = False
    ) -> None:
        self.mixed, self.strangers, self.missing = mixed, strangers, missing
        self.extra, self.twice = extra, twice

    def __call__(self, batch: Sequence[Job]) -> np.ndarray:
        return np.stack([self.one(job) for job in batch])

    def one(self, job: Job) -> np.ndarray:
        numbers = [int(subject.id[1:]) for subject in job.subjects]
        numbers = [numbers[0]] * len(numbers) if self.twice else numbers
        people = [colour(number) for number in numbers]
        people = [self.mixed * np.mean(people, axis=0) + (1 - self.mixed) * person for person in people]
        people[: self.strangers] = [colour(100 + number) for number in numbers[: self.strangers]]
        people += [colour(200 + k) for k in range(self.extra)]
        return picture(people[self.missing :], job.seed)
