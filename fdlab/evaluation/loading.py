"""The extractors that ship, wired to what measuring asks for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from fdlab.evaluation.measuring import Extractors


class Faces:
    """The shipped detector and recogniser as one extractor; its digest covers both."""

    def __init__(self, device: str = "cpu") -> None:
        from fdlab.evaluation.faces import FaceDetector, FaceRecogniser

        self.detector, self.recogniser = FaceDetector(device), FaceRecogniser(device)
        self.name = f"{self.detector.name}+{self.recogniser.name}"
        both = f"{self.detector.sha256} {self.recogniser.sha256}"
        self.sha256: str | None = hashlib.sha256(both.encode()).hexdigest()

    def detect(self, images_BHW3: np.ndarray) -> list[list[Any]]:
        """All faces of every picture."""
        return self.detector(images_BHW3)

    def embed(self, images_BHW3: np.ndarray, faces: Sequence[Any]) -> np.ndarray:
        """Unit-length embedding of one face a picture: (B, D)."""
        return np.asarray(self.recogniser.embed(images_BHW3, [[face] for face in faces]).cpu().numpy())


def shipped(device: str = "cpu") -> Extractors:
    """Every extractor that ships."""
    return Extractors(faces=Faces(device))
