"""An album: photos of people whose faces are squares, a colour a person, on a ground of its own each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fdlab.data.pictures import read_photo
from fdlab.preparation.work import Stage

COLOURS = ((230, 20, 20), (20, 200, 20), (20, 20, 230), (220, 220, 20), (220, 20, 220))
SIDE = 12
"""Of a face, in pixels."""


def picture(ground: int, people: Sequence[int], size: int = 96, side: int = SIDE) -> np.ndarray:
    """uint8 HW3: grey patches that the ground's number decides, people from left to right."""
    rng = np.random.default_rng(ground)
    image_HW3 = np.kron(rng.integers(60, 200, (6, 6, 1)), np.ones((size // 6, size // 6, 3))).astype(np.uint8)
    for place, person in enumerate(people):
        x = round((place + 0.5) * size / len(people) - side / 2)
        image_HW3[20 : 20 + side, x : x + side] = COLOURS[person]
    return image_HW3


def write(folder: Path, name: str, image_HW3: np.ndarray, caption: str | None = None, **options: Any) -> Path:
    """A photo, and its caption beside it."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image_HW3).save(path, **options)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption + "\n")
    return path


def fill(folder: Path) -> None:
    """Nine photos: five people, a duplicate, one of nobody, a tiny one, a broken one."""
    write(folder, "a.png", picture(1, [0]), "a woman on a beach")
    write(folder, "b.png", picture(2, [0, 1]), "two women laugh")
    write(folder, "c.png", picture(3, [2]), "a man")
    write(folder, "d.png", picture(4, [2, 3]), "the man on the right and the boy on the left")
    write(folder, "e.png", picture(5, [4]))
    write(folder, "more/a again.jpg", picture(1, [0]), quality=80)
    write(folder, "nobody.png", picture(6, []), "a beach")
    write(folder, "tiny.png", picture(7, [0], 30, 6))
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (folder / "notes.md").write_text("not a photo")


class Finder:
    """Finds squares; stands where networks would, in stages of tests alone."""

    def __init__(self, pictures: str, told: str) -> None:
        self.pictures = Path(pictures)

    def __call__(self, stage: Stage, key: str) -> dict[str, Any]:
        """As `fdlab.preparation.faces.FaceFinder`."""
        image_HW3 = read_photo(self.pictures / key[:2] / f"{key}.jpg").astype(int)
        found = []
        for person, colour in enumerate(COLOURS):
            y, x = np.nonzero(np.abs(image_HW3 - colour).max(2) < 40)
            if len(y) > 9:
                box = [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1]
                vector = np.eye(len(COLOURS))[person].tolist()
                found.append({"box": box, "score": 1.0, "embedding": vector})
        found.sort(key=lambda face: face["box"][0])
        return {"extractor": {"name": "squares", "sha256": "0"}, "faces": found}
