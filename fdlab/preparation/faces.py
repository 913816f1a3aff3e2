"""Stage two: the faces of each picture, and as a recogniser sees them.

Axes: H W pixels, F faces, 52 five points (x, y), D embedding width.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fdlab.data.pictures import read_photo
from fdlab.errors import UserError
from fdlab.measure.choose import Faces
from fdlab.measure.faces.choice import missing
from fdlab.preparation.settings import FaceSettings, IdentitySettings
from fdlab.preparation.work import Stage, packed

VERSION = 1
KEY = "prepare.identities.weights"
DIGITS = 4
"""Of coordinates and embeddings in notes, behind the point: roundings of other threads do not show."""


@dataclass(frozen=True)
class FoundFace:
    """A face in a picture, in its pixels."""

    box: tuple[float, float, float, float]
    """x1, y1, x2, y2."""
    score: float
    embedding_D: np.ndarray
    """float32, unit length but for rounding."""

    @property
    def side(self) -> float:
        """The longer one of its box."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])

    @property
    def middle(self) -> float:
        """Where it is from left to right."""
        return (self.box[0] + self.box[2]) / 2


def stage_of(pictures: Stage, work: Path, faces: FaceSettings, identities: IdentitySettings) -> Stage:
    """The stage; notes by the content's key. Raises: UserError where the recogniser's weights are not
    there."""
    problem = missing(identities.recogniser, identities.weights, KEY)
    if problem:
        raise UserError(problem)
    told = {
        "min_face": faces.min_face,
        "min_score": faces.min_score,
        "recogniser": identities.recogniser,
        "weights": identities.weights,
    }
    facts = {"version": VERSION, "after": pictures.folder.name, **told}
    return Stage.of(work, "faces", facts, FaceFinder, str(pictures.folder), packed(told))


class FaceFinder:
    """Finds and embeds faces, one picture at a time: so that others in a batch change nothing."""

    def __init__(self, pictures: str, told: str) -> None:
        wanted = json.loads(told)
        self.pictures = Path(pictures)
        self.min_score = wanted["min_score"]
        self.faces = Faces("cpu", wanted["recogniser"], wanted["weights"], KEY, wanted["min_face"])

    def __call__(self, stage: Stage, key: str) -> dict[str, Any]:
        """The faces of a picture from left to right, and which networks found them."""
        image_1HW3 = read_photo(self.pictures / key[:2] / f"{key}.jpg")[None]
        found = [face for face in self.faces.detect(image_1HW3)[0] if face.score >= self.min_score]
        found.sort(key=lambda face: (face.box[0] + face.box[2], face.box[1]))
        embedding_FD = self.faces.recogniser.embed(image_1HW3, [found]).numpy()
        return {
            "extractor": {"name": self.faces.name, "sha256": self.faces.sha256},
            "faces": [
                {
                    "box": _rounded(face.box),
                    "score": round(float(face.score), DIGITS),
                    "embedding": _rounded(embedding_D),
                }
                for face, embedding_D in zip(found, embedding_FD, strict=True)
            ],
        }


def _rounded(values: Any) -> list[float]:
    return [round(float(value), DIGITS) for value in values]


def faces_in(note: Mapping[str, Any]) -> list[FoundFace]:
    """The faces that a note tells of."""
    return [
        FoundFace(tuple(face["box"]), face["score"], np.array(face["embedding"], np.float32))
        for face in note["faces"]
    ]
