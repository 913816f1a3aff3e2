"""The extractors that ship, wired to what measuring asks for."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fdlab.assets import ROOT
from fdlab.errors import UserError
from fdlab.evaluation.measuring import Extractors

T = TypeVar("T")

JUDGES = ("judge", "nano/judge")
"""Where the judge ships: a CLIP model of its own with heads for what rendered people show."""


class Faces:
    """The shipped detector and recogniser as one extractor; its digest covers both."""

    def __init__(self, device: str = "cpu") -> None:
        from fdlab.evaluation.faces import FaceDetector, FaceRecogniser

        self.detector, self.recogniser = FaceDetector(device), FaceRecogniser(device)
        self.name = f"{self.detector.name}+{self.recogniser.name}"
        both = f"{self.detector.sha256} {self.recogniser.sha256}"
        self.sha256 = hashlib.sha256(both.encode()).hexdigest()

    def detect(self, images_BHW3: np.ndarray) -> list[list[Any]]:
        """All faces of every picture."""
        return self.detector(images_BHW3)

    def embed(self, images_BHW3: np.ndarray, faces: Sequence[Any]) -> np.ndarray:
        """Unit-length embedding of one face a picture: (B, D)."""
        return np.asarray(self.recogniser.embed(images_BHW3, [[face] for face in faces]).cpu().numpy())


def shipped(device: str = "cpu") -> Extractors:
    """Every extractor that ships; one line on stderr for each that is not there, and what is lost by that."""
    from fdlab.evaluation.extractors import EfficientNetExtractor

    features = _optional(lambda: EfficientNetExtractor(device), "no Frechet or kernel distance")
    folder = _optional(_judge_folder, "no prompt accuracy, CLIP score or CMMD")
    if folder is None:
        return Extractors(faces=Faces(device), features=features)
    from fdlab.evaluation.extractors import ClipExtractor
    from fdlab.models.judge import JudgeExtractor

    return Extractors(Faces(device), ClipExtractor(folder, device), features, JudgeExtractor(folder, device))


def _judge_folder() -> Path:
    for name in JUDGES:
        if (ROOT / name / "judge.json").is_file():
            return ROOT / name
    raise UserError(
        f"the judge does not ship with this copy of fdlab (asset:{JUDGES[0]}; experiments/nano makes it)"
    )


def _optional(load: Callable[[], T], lost: str) -> T | None:
    try:
        return load()
    except UserError as error:
        print(f"note: {lost}, for {error}".rstrip(".") + ".", file=sys.stderr)
        return None
