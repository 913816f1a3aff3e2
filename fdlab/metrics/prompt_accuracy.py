"""Did the picture get what the prompt asked for? Only where the truth is known: rendered people and a trained
judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fdlab.metrics.metric import Measurements, Metric


def correct(
    predicted: Mapping[str, Sequence[str]], truth: Sequence[Mapping[str, str]]
) -> list[dict[str, bool]]:
    """For each picture, whether each attribute that its prompt asks for (and the judge knows) was seen.

    `predicted[attribute][i]` is the judge's answer for picture i. ValueError if a judge's list has another
    length.
    """
    for attribute, answers in predicted.items():
        if len(answers) != len(truth):
            raise ValueError(f"the judge gave {len(answers)} answers for '{attribute}', not {len(truth)}")
    return [
        {key: predicted[key][i] == value for key, value in asked.items() if key in predicted}
        for i, asked in enumerate(truth)
    ]


def prompt_accuracy(correct_by_picture: Sequence[Mapping[str, bool]]) -> np.ndarray:
    """Share of the asked attributes that each picture shows, (N); NaN where nothing was asked."""
    return np.array([np.mean(list(entry.values())) if entry else np.nan for entry in correct_by_picture])


def _correct(seen: Measurements) -> list[dict[str, bool]]:
    assert seen.judged is not None
    return correct(seen.judged, seen.truth)


def _details(seen: Measurements) -> list[dict[str, Any]]:
    """What the judge answered, and whether it is what was asked for."""
    judged = seen.judged or {}
    return [
        {"judged": {key: answers[n] for key, answers in judged.items()}, "prompt_correct": right}
        for n, right in enumerate(_correct(seen))
    ]


METRICS = (
    Metric(
        "prompt_accuracy", "prompt", "share", True, lambda seen: prompt_accuracy(_correct(seen)), ("judge",),
        "share of what the prompt asks for that the judge sees",
        place=17, recorded=13, column=8, tile=5, rank=3, details=_details,
    ),
)  # fmt: skip
