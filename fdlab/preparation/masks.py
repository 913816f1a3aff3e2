"""Stage three: where in the picture each person is, as a label map beside a score a person.

Axes: H W pixels, F faces, 3 RGB.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fdlab.data.pictures import read_photo
from fdlab.files import whole
from fdlab.measure.networks import info
from fdlab.preparation.faces import faces_in
from fdlab.preparation.people_masks import PersonMask, face_oval
from fdlab.preparation.segmenters import Segmenter, kind_of, segmenter_of
from fdlab.preparation.settings import MaskSettings
from fdlab.preparation.work import Stage, packed

VERSION = 2
MOST = 255
"""Faces of one picture, as a label map of bytes holds."""
COVERED = 0.5
"""Share of its own face that a mask has at least: in the dark a matte may find scraps alone."""


def network_of(segmenter: Segmenter) -> dict[str, str] | None:
    """The network behind masks as records name it; None where there is none."""
    return None if segmenter.network is None else info(segmenter.network)


def stage_of(pictures: Stage, faces: Stage, work: Path, settings: MaskSettings) -> Stage:
    """The stage; notes by the content's key. Raises: UserError for masks that nothing here can make."""
    kind_of(settings.source)
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
        labels_HW, scores = facing(labels_HW, scores, boxes_F4)
        with whole(stage.path(key, ".png"), flush=False) as temporary:
            Image.fromarray(labels_HW).save(temporary, "PNG", compress_level=3)
        people = [{"face": face, "score": score} for face, score in sorted(scores.items())]
        return {"network": network_of(self.segmenter), "people": people}


def label_map(masks: Sequence[PersonMask], shape: tuple[int, int]) -> tuple[np.ndarray, dict[int, float]]:
    """Masks of faces' owners as one map (uint8 HW), and the score of each who has pixels. Where two overlap,
    the better one is in front."""
    labels_HW = np.zeros(shape, np.uint8)
    own = [mask for mask in masks if mask.face < MOST]
    for mask in sorted(own, key=lambda mask: (mask.score, -mask.face)):
        labels_HW[mask.mask_HW] = mask.face + 1
    seen = set(np.unique(labels_HW).tolist())
    return labels_HW, {m.face: round(float(m.score), 4) for m in own if m.face + 1 in seen}


def facing(
    labels_HW: np.ndarray, scores: Mapping[int, float], boxes_F4: np.ndarray
) -> tuple[np.ndarray, dict[int, float]]:
    """The map and the scores without masks that miss most of their own face: they show no person."""
    kept = {}
    for face, score in scores.items():
        oval_HW = face_oval(boxes_F4[face], labels_HW.shape)
        if (labels_HW[oval_HW] == face + 1).sum() >= COVERED * max(1, oval_HW.sum()):
            kept[face] = score
    lost = [face + 1 for face in scores if face not in kept]
    return np.where(np.isin(labels_HW, lost), np.uint8(0), labels_HW), kept


def read_labels(stage: Stage, key: str) -> np.ndarray:
    """A picture's label map, uint8 HW."""
    with Image.open(stage.path(key, ".png")) as image:
        return np.array(image)
