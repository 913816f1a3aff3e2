"""The networks that measure, as protocols. B batch, D features, H W pixels, 3 RGB uint8."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from fdlab.errors import UserError


class FaceNetwork(Protocol):
    """Finds and embeds faces."""

    name: str
    sha256: str

    def detect(self, images_BHW3: np.ndarray) -> list[list[Any]]:
        """All faces of every picture."""

    def embed(self, images_BHW3: np.ndarray, faces: Sequence[Any]) -> np.ndarray:
        """Embed one face a picture: (B, D)."""


@runtime_checkable
class FeatureNetwork(Protocol):
    """Any network with one feature vector a picture."""

    name: str
    sha256: str

    def __call__(self, images_BHW3: np.ndarray) -> Any:
        """Features (B, D), an array or a tensor."""


class PromptFeatures(Protocol):
    """Features of prompts, and which prompts had to be cut."""

    feature_BD: Any
    truncated_B: Any


class ClipNetwork(FeatureNetwork, Protocol):
    """A dual encoder that is not the conditioner of any model measured."""

    def text(self, prompts: Sequence[str]) -> Any:
        """`PromptFeatures` of prompts."""


class JudgeNetwork(Protocol):
    """Says what a picture of rendered people shows, attribute by attribute."""

    name: str
    sha256: str

    def __call__(self, images_BHW3: np.ndarray) -> dict[str, list[str]]:
        """Attribute -> one answer a picture."""


@dataclass(frozen=True)
class Extractors:
    """The networks that measure; a metric whose extractor is None is absent from the record."""

    faces: FaceNetwork | None = None
    clip: ClipNetwork | None = None
    features: FeatureNetwork | None = None
    judge: JudgeNetwork | None = None

    def summary(self) -> dict[str, Any]:
        """Name and digest of each, None where there is none."""
        parts = {"faces": self.faces, "clip": self.clip, "features": self.features, "judge": self.judge}
        return {key: info(part) if part else None for key, part in parts.items()}


def info(extractor: Any) -> dict[str, str]:
    """An extractor as records name it."""
    return {"name": str(extractor.name), "sha256": extractor.sha256}


def finite(features: Any, name: str) -> np.ndarray:
    """Features of any device as float64. UserError where one is not finite."""
    array = np.asarray(features.detach().cpu() if hasattr(features, "detach") else features, np.float64)
    if not np.isfinite(array).all():
        raise UserError(
            f"extractor '{name}' gave features that are not finite (NaN); check its weights and the images."
        )
    return array
