"""A benchmark of coloured squares and extractors that read the colours: exact, and made in milliseconds.

A "face" is the middle of a picture; its embedding is its mean colour, centred. A black middle is no face.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from fdlab.benchmarks.jobs import Job
from fdlab.measure.networks import Extractors
from fdlab.randomness import numpy_rng

SIZE = 16
SCENES = ("beach", "forest")


def colour(subject: int) -> np.ndarray:
    """The subject's own colour, never dark."""
    return numpy_rng(7, "colour", subject).integers(60, 250, 3)


def picture(
    subject: int | None, *noise: int | str, scene: str = "beach", amount: int = 12, size: int = SIZE
) -> np.ndarray:
    """A picture of a subject (None: of nobody) in a scene: the border's brightness."""
    rng = numpy_rng(3, "picture", *noise)
    image = np.full((size, size, 3), 40 + 120 * SCENES.index(scene), np.int64)
    quarter = size // 4
    image[quarter:-quarter, quarter:-quarter] = 0 if subject is None else colour(subject)
    if subject is not None:
        image = image + rng.integers(-amount, amount + 1, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def write_benchmark(
    root: Path, subjects: int = 4, prompts: int = 4, images: int = 2, size: int = SIZE
) -> dict[str, Any]:
    """Write a benchmark folder; returns its manifest."""
    for folder in ("references", "heldout", "masks", "real"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    people = []
    for s in range(subjects):
        name = f"s{s:02d}"
        Image.fromarray(picture(s, "reference", s, size=size)).save(root / f"references/{name}.png")
        Image.fromarray(picture(s, "heldout", s, size=size)).save(root / f"heldout/{name}.png")
        mask = np.zeros((size, size), np.uint8)
        mask[size // 4 : -(size // 4), size // 4 : -(size // 4)] = 255
        Image.fromarray(mask).save(root / f"masks/{name}.png")
        people.append(
            {
                "id": name,
                "noun": "woman",
                "identity": s,
                "references": [f"references/{name}.png"],
                "heldout": [f"heldout/{name}.png"],
            }
        )
    texts = []
    for p in range(prompts):
        scene = SCENES[p % 2]
        text = f"a {{noun}} <|image|> on a {scene}"
        texts.append({"id": f"p{p:02d}", "category": f"c{p // 2}", "text": text, "truth": {"scene": scene}})
        for s in range(subjects):
            for i in range(images):
                image = picture(s, "real", s, p, i, scene=scene, size=size)
                Image.fromarray(image).save(root / f"real/s{s:02d}-p{p:02d}-{i}.png")
    manifest = {
        "name": "squares", "version": "1", "size": size, "seed": 5, "images_per_prompt": images,
        "subjects": people,
        "prompts": texts, "real": "real/{subject}-{prompt}-{index}.png",
    }  # fmt: skip
    (root / "benchmark.json").write_text(json.dumps(manifest))
    return manifest


@dataclass(frozen=True)
class Face:
    box: tuple[float, float, float, float]
    score: float
    landmarks_52: np.ndarray


class Faces:
    name, sha256 = "squares", "0" * 64

    def detect(self, images_BHW3: np.ndarray) -> list[list[Face]]:
        height = images_BHW3.shape[1]
        face = Face(
            (height / 4, height / 4, height * 3 / 4, height * 3 / 4), 0.9, np.zeros((5, 2), np.float32)
        )
        return [[face] if image[height // 2, height // 2].max() > 20 else [] for image in images_BHW3]

    def embed(self, images_BHW3: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
        assert len(images_BHW3) == len(faces)
        height = images_BHW3.shape[1]
        middle = images_BHW3[:, height // 4 : -(height // 4), height // 4 : -(height // 4)].astype(float)
        return middle.mean((1, 2)) - 155.0


class Features:
    name, sha256 = "thumbnails", "1" * 64

    def __call__(self, images_BHW3: np.ndarray) -> np.ndarray:
        step = images_BHW3.shape[1] // 4
        return images_BHW3[:, ::step, ::step].reshape(len(images_BHW3), -1) / 255.0


class Clip(Features):
    name, sha256 = "brightness", "2" * 64

    def __call__(self, images_BHW3: np.ndarray) -> np.ndarray:
        bright = images_BHW3[:, 0].mean((1, 2)) / 255.0
        return np.stack([bright, 1 - bright], 1)

    def text(self, prompts: Sequence[str]) -> Any:
        assert not any("<|image|>" in prompt for prompt in prompts)
        rows = [[1.0, 0.0] if "forest" in prompt else [0.0, 1.0] for prompt in prompts]
        return SimpleNamespace(feature_BD=np.array(rows), truncated_B=np.zeros(len(rows), bool))


class Judge:
    name, sha256 = "border", "3" * 64

    def __call__(self, images_BHW3: np.ndarray) -> dict[str, list[str]]:
        return {"scene": ["forest" if image[0].mean() > 100 else "beach" for image in images_BHW3]}


def extractors() -> Extractors:
    return Extractors(Faces(), Clip(), Features(), Judge())


class Painter:
    """A method whose faults are set: whom it draws, how often nobody, and the scene."""

    def __init__(
        self, wrong: float = 0.0, missing: float = 0.0, scene: str | None = None, size: int = SIZE
    ) -> None:
        self.wrong, self.missing, self.scene, self.size = wrong, missing, scene, size
        self.drawn: list[str] = []

    def __call__(self, batch: Sequence[Job]) -> np.ndarray:
        self.drawn += [job.id for job in batch]
        return np.stack([self.one(job) for job in batch])

    def one(self, job: Job) -> np.ndarray:
        subject: int | None = int(job.subject.id[1:])
        draw = numpy_rng(job.seed, "fault").random(2)
        if draw[0] < self.wrong:
            subject = (subject + 1) % 4
        if draw[1] < self.missing:
            subject = None
        scene = self.scene or job.prompt.truth["scene"]
        return picture(subject, job.seed, scene=scene, size=self.size)
