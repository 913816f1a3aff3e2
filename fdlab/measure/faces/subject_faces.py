"""The faces of a picture's subjects: where they are, and as a recogniser sees them.

Axes: H W pixels, N subjects, D embedding width.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from fdlab.data.entry import Faces
from fdlab.measure.faces.detector import FaceDetector
from fdlab.measure.faces.face import Face, largest
from fdlab.measure.faces.head import within
from fdlab.measure.faces.recogniser import Recogniser
from fdlab.measure.faces.remembered import Remembered, RememberingDetector, digest, usual_detector


class SubjectFaces:
    """Finds the largest face on each subject's mask, and embeds it where there is a recogniser."""

    def __init__(
        self,
        recogniser: Recogniser | None = None,
        detector: FaceDetector | RememberingDetector | None = None,
    ) -> None:
        self.recogniser, self._given = recogniser, detector
        self._embedded = Remembered[np.ndarray]()
        self.name = "faces-1" if recogniser is None else f"faces-1 {recogniser.name} {recogniser.sha256}"
        self.dim = 0 if recogniser is None else recogniser.dim

    @cached_property
    def detector(self) -> FaceDetector | RememberingDetector:
        return self._given or usual_detector()

    def __call__(self, image_HW3: np.ndarray, masks_NHW: np.ndarray) -> Faces:
        """Landmarks and embeddings of those whom the masks show."""
        num = len(masks_NHW)
        landmarks_N52 = np.full((num, 5, 2), np.nan, np.float32)
        embedding_ND = np.zeros((num, self.dim), np.float32)
        # A copy: torch warns of what cannot be written to.
        image_1HW3 = np.array(image_HW3)[None]
        found = self.detector(image_1HW3)[0] if num else []
        faces: dict[int, Face] = {}
        for n, mask_HW in enumerate(masks_NHW):
            face = largest(within(found, mask_HW))
            if face is not None:
                faces[n], landmarks_N52[n] = face, face.landmarks_52
        if self.recogniser is not None and faces:
            seen = list(faces)
            key = digest(image_1HW3, landmarks_N52[seen])
            embedding_ND[seen] = self._embedded.of(key, lambda: self._embed(image_1HW3, list(faces.values())))
        return Faces(landmarks_N52, embedding_ND)

    def _embed(self, image_1HW3: np.ndarray, faces: list[Face]) -> np.ndarray:
        assert self.recogniser is not None
        return self.recogniser.embed(image_1HW3, [faces]).numpy()
