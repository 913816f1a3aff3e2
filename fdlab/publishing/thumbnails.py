"""Small pictures that a page carries with it: of each prompt some people, the same in every row, and each
row's worst cases. A page that travels alone shows them; all others stay links."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fdlab.errors import UserError
from fdlab.metrics.registry import SCORES
from fdlab.records.gallery import thumbnail

SIDE, QUALITY = 128, 60
WORST = 6
"""Cases of a score."""


def places(pictures: Sequence[Sequence[Any]], num: int) -> list[int]:
    """`num` places of `pictures` ([id, subjects, prompt]), spread over prompts, then over people.

    The k-th picture of a prompt shows others than the k-th of the next, as far as there are others.
    """
    by_prompt: dict[Any, list[int]] = {}
    for place, (_, _, prompt) in enumerate(pictures):
        by_prompt.setdefault(prompt, []).append(place)
    groups = list(by_prompt.values())
    each, more = divmod(min(num, len(pictures)), max(1, len(groups)))
    chosen: list[int] = []
    for n, group in enumerate(groups):
        count = min(len(group), each + (n < more))
        step = len(group) // max(1, count)
        chosen += [group[(n * count + k * step) % len(group)] for k in range(count)]
    return sorted(chosen)


def worst(values: Mapping[str, Sequence[float | None]]) -> list[int]:
    """Places of the WORST worst of each score."""
    found: list[int] = []
    for name, scores in values.items():
        sign = 1 if SCORES[name].higher_is_better else -1
        known = [(sign * score, place) for place, score in enumerate(scores) if score is not None]
        found += [place for _, place in sorted(known)[:WORST]]
    return found


def read(folder: Path, files: Sequence[str], chosen: Sequence[int]) -> dict[str, str]:
    """Place -> data URI, of those of `chosen` whose file below `folder` is a picture; others stay links."""
    found: dict[str, str] = {}
    for place in sorted(set(chosen)):
        if not files[place]:
            continue
        try:
            found[str(place)] = thumbnail(folder / files[place], SIDE, QUALITY)[0]
        except UserError:
            continue
    return found
