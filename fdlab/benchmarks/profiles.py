"""How drawn pictures are scored: strictly, or as the FastComposer paper's released code does it.

The two differ in what an identity is worth, so their numbers never share a column: metrics of another profile
than `strict` have another version. Read at `mit-han-lab/fastcomposer`, `evaluation/`. What differs from it
still: CLIP's resize is antialiased, and a person who got no face counts 0, where the code pads with the
embedding of a grey picture.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fdlab.errors import unknown


@dataclass(frozen=True)
class Profile:
    """One way of scoring. The defaults are the strict one's."""

    name: str
    metrics: tuple[str, ...] | None = None
    """What is recorded; None: all that can be measured."""
    jpeg_quality: int | None = None
    """Pictures are scored as they come out of JPEG of this quality; None: as they were drawn."""
    least_of_group: bool = False
    """Identity is that of the worst matched face, faces matched greedily, clipped at 0; else raw, of the best
    assignment."""
    min_face: float | None = None
    """Smallest face looked for, as a share of the picture's shorter side; None: the detector's own choice."""
    faces: str = ""
    """Name of the face extractor that the published numbers are by; empty: any."""
    clip: str = ""
    """The same of the CLIP, as `evaluation.clip` and as folders are called."""
    sampler: Mapping[str, float] = field(default_factory=dict)
    """Settings that the published numbers are with."""

    def version(self, version: str) -> str:
        """A metric's version under this profile."""
        return version if self.name == STRICT else f"{version}+{self.name}"

    @property
    def image_format(self) -> str:
        """The record's `image_format`."""
        return "png" if self.jpeg_quality is None else f"jpeg-{self.jpeg_quality} of png"


STRICT, FASTCOMPOSER = "strict", "fastcomposer"
PROFILES: dict[str, Profile] = {
    STRICT: Profile(STRICT),
    FASTCOMPOSER: Profile(
        FASTCOMPOSER,
        metrics=("identity_similarity", "face_detection_rate", "clip_score"),
        jpeg_quality=75,
        least_of_group=True,
        min_face=20 / 512,
        faces="mtcnn+facenet",
        clip="vit_l14",
        sampler={"num_steps": 50, "guidance_scale": 5.0, "subject_fraction": 0.5},
    ),
}


def profile_of(name: str) -> Profile:
    """Look a profile up; UserError with the nearest match."""
    if name not in PROFILES:
        raise unknown("benchmark.profile", name, PROFILES)
    return PROFILES[name]


def recompressed(images_BHW3: np.ndarray, quality: int) -> np.ndarray:
    """Pictures (uint8) as they come out of JPEG of a quality, chroma halved as Pillow does by default."""
    from PIL import Image

    out = []
    for image_HW3 in images_BHW3:
        with io.BytesIO() as buffer:
            Image.fromarray(image_HW3).save(buffer, format="JPEG", quality=quality)
            with Image.open(buffer) as opened:
                out.append(np.asarray(opened.convert("RGB")))
    return np.stack(out)
