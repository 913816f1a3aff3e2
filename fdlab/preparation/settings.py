"""What the preparation of photos is told: conf/prepare, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar

T = TypeVar("T")

SMALL_FACES = ("keep", "blur", "drop")
CAPTIONS = ("beside", "model", "template")
MATTING, BOXES = "matting", "boxes"


@dataclass(frozen=True)
class PictureSettings:
    """What is taken as a picture."""

    longest_side: int = 1536
    shortest_side: int = 256
    duplicate_bits: int = 24


@dataclass(frozen=True)
class FaceSettings:
    """Who counts as a person."""

    min_face: float = 0.05
    min_score: float = 0.9
    small: float = 32
    small_faces: Literal["keep", "blur", "drop"] = "keep"
    most: int = 6


@dataclass(frozen=True)
class MaskSettings:
    """Where people are."""

    source: str = MATTING
    min_score: float = 0.0


@dataclass(frozen=True)
class CaptionSettings:
    """What a picture shows."""

    source: Literal["beside", "model", "template"] = "beside"
    model: str | None = None
    question: str | None = None
    device: str = "cpu"
    nouns: Literal["auto", "rules", "spacy"] = "auto"
    spacy_model: str = "en_core_web_sm"
    noun: str = "person"


@dataclass(frozen=True)
class IdentitySettings:
    """Who is who."""

    recogniser: str = "faceres"
    weights: str | None = None
    threshold: float = 0.4


@dataclass(frozen=True)
class SplitSettings:
    """Who is held out."""

    test_share: float = 0.05
    seed: int = 0


@dataclass(frozen=True)
class Settings:
    """conf/prepare."""

    pictures: PictureSettings = PictureSettings()
    faces: FaceSettings = FaceSettings()
    masks: MaskSettings = MaskSettings()
    captions: CaptionSettings = CaptionSettings()
    identities: IdentitySettings = IdentitySettings()
    split: SplitSettings = SplitSettings()
    corrections: str | None = None

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Settings:
        """From a checked configuration's `prepare`."""
        parts = {
            field.name: _read(type(getattr(cls(), field.name)), given[field.name])
            for field in fields(cls)
            if field.name != "corrections"
        }
        return cls(**parts, corrections=given["corrections"])


def _read(kind: type[T], given: Mapping[str, Any]) -> T:
    return kind(**{str(key): given[key] for key in given})
