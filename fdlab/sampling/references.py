"""The references of a call: the face of each photo, cut out once, and written for whoever looks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fdlab.data.pictures import is_readable, write_png
from fdlab.measure.faces import FaceDetector
from fdlab.measure.faces.photos import Head, cut_face
from fdlab.progress import track
from fdlab.sampling.requests import Request


@dataclass(frozen=True)
class Cut:
    """The face of a photo, as a file."""

    photo: Path
    face: int | None
    file: str
    """Relative to the call's folder."""
    image_HW3: np.ndarray = field(repr=False, compare=False)
    sha256: str
    """Of the pixels, whatever the photo's name."""

    @property
    def label(self) -> str:
        """For a caption."""
        return self.photo.name if self.face is None else f"{self.photo.name}, face {self.face}"

    def describe(self) -> dict[str, Any]:
        """For a picture's JSON."""
        return {
            "photo": str(self.photo),
            "face": "largest" if self.face is None else self.face,
            "reference": self.file,
            "sha256": self.sha256,
        }


def write_all(cuts: Iterable[Cut], folder: Path) -> None:
    """Write references into `folder`, those that are not there, or damaged."""
    for cut in cuts:
        if not is_readable(folder / cut.file):
            write_png(folder / cut.file, cut.image_HW3)


def cut_all(requests: Sequence[Request], head: Head | None = None) -> list[tuple[Cut, ...]]:
    """Cut every request's faces out of its photos.

    Raises: UserError that names row and photo where there is no picture, or no such face.
    """
    faces: dict[tuple[Path, int | None], np.ndarray] = {}
    # Loaded once, and only where there is a photo.
    detector = FaceDetector() if any(request.photos for request in requests) else None
    for request in track(requests, "photos"):
        with request.named():
            for wanted in zip(request.photos, request.faces, strict=True):
                if wanted not in faces:
                    faces[wanted] = np.asarray(cut_face(*wanted, detector, head))
    cuts = {wanted: _cut(*wanted, image_HW3) for wanted, image_HW3 in faces.items()}
    return [
        tuple(cuts[wanted] for wanted in zip(request.photos, request.faces, strict=True))
        for request in requests
    ]


def _cut(photo: Path, face: int | None, image_HW3: np.ndarray) -> Cut:
    digest = hashlib.sha256(f"{image_HW3.shape}".encode() + image_HW3.tobytes()).hexdigest()
    return Cut(photo, face, f"references/{photo.stem[:48]}-{digest[:10]}.png", image_HW3, digest)
