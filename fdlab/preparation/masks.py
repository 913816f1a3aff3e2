"""Stage three: where in the picture each person is, as a label map beside a score a person.

Axes: H W pixels, F faces, 3 RGB.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from fdlab.data.pictures import read_photo
from fdlab.files import whole
from fdlab.measure.matting import PersonMatting
from fdlab.measure.networks import info
from fdlab.preparation.faces import faces_in
from fdlab.preparation.people_masks import PersonMask, tell_apart
from fdlab.preparation.settings import MATTING, MaskSettings
from fdlab.preparation.work import Stage, packed

VERSION = 1
WIDE, ABOVE = 2.6, 0.5
"""Of a body that a face belongs to: its width, and what of the head is above the face, in faces."""


MOST = 255
"""Faces of one picture, as a label map of bytes holds."""


class Mask(Protocol):
    """One person in a picture."""

    @property
    def mask_HW(self) -> np.ndarray:
        """Bool."""

    @property
    def score(self) -> float:
        """How well it is cut out, from 0 to 1."""

    @property
    def face(self) -> int:
        """Which of the faces is this person's."""


class Segmenter(Protocol):
    """Finds the people to whom faces belong."""

    def __call__(self, image_HW3: np.ndarray, boxes_F4: np.ndarray) -> Sequence[Mask]:
        """Masks of people; faces as x1, y1, x2, y2 in pixels."""


@dataclass(frozen=True)
class _Box:
    mask_HW: np.ndarray
    score: float
    face: int


def body_boxes(image_HW3: np.ndarray, boxes_F4: np.ndarray) -> list[Mask]:
    """The rectangle that each body takes, from above the face to the picture's lower edge. Where two meet,
    each column is the nearer face's. No outline, hence no score worth a number: 0."""
    height, width = image_HW3.shape[:2]
    column_W = np.arange(width) + 0.5
    side_F = np.maximum(boxes_F4[:, 2] - boxes_F4[:, 0], 1e-6)
    middle_F = (boxes_F4[:, 0] + boxes_F4[:, 2]) / 2
    distance_FW = np.abs(column_W[None] - middle_F[:, None]) / side_F[:, None]
    nearest_W = distance_FW.argmin(0)
    made: list[Mask] = []
    for face, (_, top, _, bottom) in enumerate(boxes_F4):
        mask_HW = np.zeros((height, width), bool)
        first = int(np.clip(top - ABOVE * (bottom - top), 0, height - 1))
        mask_HW[first:, (nearest_W == face) & (distance_FW[face] <= WIDE / 2)] = True
        made.append(_Box(mask_HW, 0.0, face))
    return made


class Matting:
    """The matting that ships, its people told apart by their faces."""

    def __init__(self) -> None:
        self.network = PersonMatting.load()

    def __call__(self, image_HW3: np.ndarray, boxes_F4: np.ndarray) -> list[PersonMask]:
        """As `Segmenter`."""
        return tell_apart(self.network.matte(image_HW3), boxes_F4)


def segmenter_of(source: str) -> Segmenter:
    """What `prepare.masks.source` names."""
    return Matting() if source == MATTING else body_boxes


def network_of(segmenter: Segmenter) -> dict[str, str] | None:
    """The network behind masks as records name it; None where there is none."""
    return info(segmenter.network) if isinstance(segmenter, Matting) else None


def stage_of(pictures: Stage, faces: Stage, work: Path, settings: MaskSettings) -> Stage:
    """The stage; notes by the content's key."""
    told = {"pictures": str(pictures.folder), "faces": str(faces.folder), "source": settings.source}
    facts = {"version": VERSION, "after": faces.folder.name, "source": settings.source}
    return Stage.of(work, "masks", facts, Masker, packed(told))


class Masker:
    """Writes label maps: 0 background, else 1 + the face's number."""

    def __init__(self, told: str) -> None:
        wanted = json.loads(told)
        self.pictures, self.faces = Path(wanted["pictures"]), Path(wanted["faces"])
        self.segmenter = segmenter_of(wanted["source"])

    def __call__(self, stage: Stage, key: str) -> dict[str, Any]:
        """The people of a picture, each with a face."""
        note = json.loads((self.faces / key[:2] / f"{key}.json").read_text())
        boxes_F4 = np.array([face.box for face in faces_in(note)], np.float64).reshape(-1, 4)
        if not len(boxes_F4):
            return {"network": network_of(self.segmenter), "people": []}
        image_HW3 = read_photo(self.pictures / key[:2] / f"{key}.jpg")
        labels_HW, scores = label_map(self.segmenter(image_HW3, boxes_F4), image_HW3.shape[:2])
        with whole(stage.path(key, ".png"), flush=False) as temporary:
            Image.fromarray(labels_HW).save(temporary, "PNG", compress_level=3)
        people = [{"face": face, "score": score} for face, score in sorted(scores.items())]
        return {"network": network_of(self.segmenter), "people": people}


def label_map(masks: Sequence[Mask], shape: tuple[int, int]) -> tuple[np.ndarray, dict[int, float]]:
    """Masks of faces' owners as one map (uint8 HW), and the score of each who has pixels. Where two overlap,
    the better one is in front."""
    labels_HW = np.zeros(shape, np.uint8)
    own = [mask for mask in masks if mask.face < MOST]
    for mask in sorted(own, key=lambda mask: (mask.score, -mask.face)):
        labels_HW[mask.mask_HW] = mask.face + 1
    seen = set(np.unique(labels_HW).tolist())
    return labels_HW, {m.face: round(float(m.score), 4) for m in own if m.face + 1 in seen}


def read_labels(stage: Stage, key: str) -> np.ndarray:
    """A picture's label map, uint8 HW."""
    with Image.open(stage.path(key, ".png")) as image:
        return np.array(image)
