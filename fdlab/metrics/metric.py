"""What a metric is, and the measurements that every metric is computed from.

N pictures, M subjects a picture, S subjects, K clusters a picture (see `clusters`), P prompts, H held-out and
R true pictures, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from typing import Any

import numpy as np

from fdlab.metrics import identity
from fdlab.metrics.bootstrap import Estimate
from fdlab.metrics.matching import Matches

LARGEST = 1e15
"""No distance is larger: what is, is a broken number."""

UNITS: dict[str, tuple[float, float]] = {
    "cosine": (-1.0, 1.0),
    "cosine distance": (0.0, 2.0),
    "distance": (0.0, LARGEST),
    "percent": (0.0, 100.0),
    "probability": (0.0, 1.0),
    "relative angle": (-1.0, 1.0),
    "share": (0.0, 1.0),
}
"""Units and what they allow."""

NETWORKS = ("faces", "clip", "judge", "features")
"""What measures. A metric's record names the one it needs."""


@dataclass(frozen=True)
class Measurements:
    """What was measured on one method's pictures; what nothing measured is None."""

    group_NM: np.ndarray
    """Whom each picture was asked to show."""
    clusters_NK: np.ndarray
    seed: int = 0
    """Of the intervals' replicates."""
    measured_by: Mapping[str, str] = field(default_factory=dict)
    """Names of `NETWORKS`."""
    cell_N: np.ndarray | None = None
    """Subjects and prompt of each picture, alike where these are."""
    images_per_prompt: int = 1
    matches: Matches | None = None
    num_faces_N: np.ndarray | None = None
    """Faces found, those that do not count too."""
    embedding_NMD: np.ndarray | None = None
    """Of the faces that count, largest first."""
    reference_SD: np.ndarray | None = None
    heldout: Sequence[np.ndarray] = ()
    """Per subject (H, D), H held-out pictures."""
    least_of_group: bool = False
    """Identity is that of the worst matched face, clipped at 0."""
    clip_ND: np.ndarray | None = None
    text_ND: np.ndarray | None = None
    """Of each picture's prompt."""
    truncated_P: np.ndarray | None = None
    """Whether the text encoder cut it, for each of the different prompts."""
    features_ND: np.ndarray | None = None
    judged: Mapping[str, Sequence[str]] | None = None
    """Attribute -> the judge's answer for each picture."""
    truth: Sequence[Mapping[str, str]] = ()
    """What each prompt asks for, by attribute."""
    real: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Features_RD of the true pictures, by `clip` and `features`; empty: nothing to compare with."""

    @cached_property
    def own_NM(self) -> np.ndarray:
        """Similarity of each subject's face to the own reference, a miss is 0."""
        assert self.matches is not None
        similarity, own, detected, _ = self.matches.flat()
        return identity.own_similarity(similarity, own, detected).reshape(self.group_NM.shape)

    def has(self, need: str, network: str) -> bool:
        """Whether one of `Metric.needs` is met, for a metric by `network`."""
        if need == "several subjects":
            return self.group_NM.shape[1] > 1
        if need == "other subjects":
            found = self.matches
            return found is not None and found.similarity_NMS.shape[2] > self.group_NM.shape[1]
        if need == "several images":
            return self.images_per_prompt > 1
        if need == "true pictures":
            return network in self.real
        parts = {"faces": self.matches, "clip": self.clip_ND, "judge": self.judged}
        return {**parts, "features": self.features_ND}[need] is not None


@dataclass(frozen=True)
class Metric:
    """Everything about one metric. `METRICS` of a module in this package holds those it defines."""

    name: str
    label: str
    unit: str
    higher_is_better: bool
    score: Callable[[Measurements], np.ndarray | Estimate | None]
    """A value a picture (N), NaN where it does not count, or an estimate of the whole set; None: neither."""
    needs: tuple[str, ...]
    """One of `NETWORKS` first, then any of `several subjects` (a picture), `other subjects` (than its own),
    `several images` (of a prompt), `true pictures`."""
    about: str = ""
    """What it says, in a line."""
    range: tuple[float, float] | None = None
    """What values are possible; None: what the unit allows."""
    version: str = "1"
    decimals: int = 3
    only_by: str = ""
    """Name of the only network that may measure it; empty: any."""

    place: float = inf
    """Order in whole tables."""
    recorded: float | None = inf
    """Order in a record; None: pictures alone have it."""
    column: float | None = None
    """Order in the short table; None: not in it."""
    tile: float | None = None
    """Order among the tiles of a report; None: none of them."""
    rank: float | None = None
    """Leaderboards are ordered by the first of these that was measured; None: never, unless asked for."""

    kept: bool = True
    """Whether per_sample.jsonl keeps a picture's value under the metric's name."""
    empty_without_face: bool = False
    """It is left empty where no face was found, whatever the record counts there."""
    detected_only: bool = False
    """Pictures that lack a face have no part in it: the only ones that may be left out."""
    from_picture: Callable[[Mapping[str, Any]], float] | None = None
    """A picture's value by its line, NaN where it has none; None: what stands under the metric's name."""
    details: Callable[[Measurements], list[dict[str, Any]]] | None = None
    """What is kept beside the value, one a picture."""
    more: Callable[[Measurements], dict[str, Any]] | None = None
    """Further keys of the record's entry."""
    caution: Callable[[int], str] | None = None
    """What must be said of a value over so few pictures; empty: nothing."""

    def __post_init__(self) -> None:
        if self.needs[0] not in NETWORKS:
            raise ValueError(f"metric '{self.name}' needs one of {', '.join(NETWORKS)} first")
        if self.range is None and self.unit not in UNITS:
            raise ValueError(f"metric '{self.name}' has the unit '{self.unit}': give its range")

    @property
    def by(self) -> str:
        """Which of `NETWORKS` measures it."""
        return self.needs[0]

    @property
    def limits(self) -> tuple[float, float]:
        """The least and the greatest value that is possible."""
        return self.range or UNITS[self.unit]

    @property
    def interval_limits(self) -> tuple[float, float]:
        """The same for ends of an interval: a distance's is symmetrical, so it may pass 0."""
        return (-LARGEST, LARGEST) if self.unit == "distance" else self.limits

    def possible(self, seen: Measurements) -> bool:
        """Whether everything it needs is there."""
        return all(seen.has(need, self.by) for need in self.needs)
