"""What a table's rows are measured on: which pictures they have in common, and which of these count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fdlab.leaderboard import asked, marks
from fdlab.leaderboard.asked import Asked
from fdlab.leaderboard.evidence import Evidence
from fdlab.metrics.registry import METRICS
from fdlab.records.per_sample import ScoredPictures, drawn, faces


@dataclass(frozen=True)
class Usual:
    """What is asked of every row of a table."""

    asked: Asked | None = None
    """None: nothing is known of it."""
    counted: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Metric -> the pictures, by id, that count in it."""

    @classmethod
    def of(cls, seen: Sequence[Evidence], benchmark: Mapping[str, Any]) -> Usual:
        """What the benchmark asks, where it is known, else what most records show; and which pictures at
        least half of the records have a value of."""
        voted = asked.usual([each.asked for each in seen if each.asked is not None])
        shown = Asked.of_benchmark(benchmark) or voted
        scored = [each.scored for each in seen if each.scored is not None]
        return cls(shown, {name: _counted(name, scored) for name in METRICS})

    def against(self, seen: Evidence) -> tuple[str, str] | None:
        """Why a record may not stand among the others, as a word and in full; None where it may."""
        if seen.scored is None:
            return None
        differing = self.asked.differing(seen.asked) if self.asked else ""
        if differing:
            return marks.OTHERS, differing
        for name in (name for name in METRICS if name in seen.scored.values):
            lacking = self.counted.get(name, frozenset()) - _ids(seen.scored, _excused(name, seen.scored))
            if lacking:
                return (
                    marks.HOLES,
                    f"{METRICS[name].label}: no value for {len(lacking)} that count for others",
                )
        return None


def _counted(name: str, scored: Sequence[ScoredPictures]) -> frozenset[str]:
    having = [found for found in scored if name in found.values]
    votes = Counter(picture for found in having for picture in _ids(found, np.isfinite(found.values[name])))
    return frozenset(picture for picture, num in votes.items() if 2 * num >= len(having))


def _excused(name: str, scored: ScoredPictures) -> np.ndarray:
    """Which pictures have a value, or may be without one."""
    there_N = np.isfinite(scored.values[name])
    if not METRICS[name].detected_only:
        return there_N
    missed_N = np.array([len(faces(picture)) < len(drawn(picture)) for picture in scored.pictures])
    return np.asarray(there_N | missed_N)


def _ids(scored: ScoredPictures, which_N: np.ndarray) -> set[str]:
    return {scored.pictures[n]["id"] for n in np.flatnonzero(which_N)}
