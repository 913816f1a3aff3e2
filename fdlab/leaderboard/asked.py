"""What a record's pictures were asked to show, by its own account: only the same can be paired.

A picture's id does not say it: whoever calls his pictures as the others' but counts them as other people's
would change what is drawn at random, and with it everybody's ranks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fdlab.benchmarks import benchmark, jobs
from fdlab.errors import UserError
from fdlab.people import benchmark as rendered
from fdlab.records.per_sample import ScoredPictures, drawn

_TOLD = ("seed", "text", "category")
"""What a picture may leave out, but not say otherwise."""

Cell = tuple[str, int, tuple[str, ...]]
"""A picture's prompt, index and subjects."""


@dataclass(frozen=True)
class Asked:
    """The pictures of one record, sorted by their ids."""

    ids: tuple[str, ...]
    cells: tuple[Cell, ...]
    told: tuple[tuple[str | None, ...], ...]
    """Of every picture what `_TOLD` names, None where it is left out."""
    whose: str = field(default="most rows", compare=False)

    @classmethod
    def of(cls, scored: ScoredPictures) -> Asked:
        """Of a record's pictures."""
        pictures = sorted(scored.pictures, key=lambda picture: picture["id"])
        return cls(
            tuple(picture["id"] for picture in pictures),
            tuple((picture["prompt"], picture["index"], tuple(drawn(picture))) for picture in pictures),
            tuple(tuple(_text(picture.get(key)) for key in _TOLD) for picture in pictures),
        )

    @classmethod
    def of_benchmark(cls, about: Mapping[str, Any]) -> Asked | None:
        """What a record's benchmark asks for, where it is an embedded one: there nobody needs to vote."""
        name = str(about["name"])
        if name not in rendered.EMBEDDED:
            return None
        found = benchmark.parse(rendered.manifest(name), Path(), Path(name))
        sizes = [int(about[key]) for key in ("num_subjects", "num_prompts", "images_per_prompt")]
        if str(found.version) != about["version"]:
            return None
        try:
            found = found.limited(*sizes)
        except UserError:
            return None
        if [len(found.subjects), len(found.prompts), found.images_per_prompt] != sizes:
            return None
        made = sorted(jobs.jobs(found), key=lambda job: job.id)
        return cls(
            tuple(job.id for job in made),
            tuple((job.prompt.id, job.index, tuple(s.id for s in job.subjects)) for job in made),
            tuple((str(job.seed), job.text, job.prompt.category) for job in made),
            "the benchmark",
        )

    @property
    def agrees(self) -> int:
        """How many pictures are called by what they show, as evaluations call them."""
        named = zip(self.ids, self.cells, strict=True)
        return sum(name == f"{'-'.join(who)}-{prompt}-{index}" for name, (prompt, index, who) in named)

    def differing(self, other: Asked | None) -> str:
        """The first thing in which another record's pictures are not these, in one line; empty where they
        are."""
        if other is None or self == other:
            return ""
        if self.ids != other.ids:
            return f"not the pictures of {self.whose}, so that none can be paired"
        for name, own, theirs, told, said in zip(
            self.ids, self.cells, other.cells, self.told, other.told, strict=True
        ):
            if own != theirs:
                return f"picture {name} shows {_shown(theirs)}, that of {self.whose} {_shown(own)}"
            for key, first, second in zip(_TOLD, told, said, strict=True):
                if None not in (first, second) and first != second:
                    return f"picture {name} has another {key} than that of {self.whose}"
        return ""


def usual(found: Sequence[Asked]) -> Asked | None:
    """What most records' pictures show; of as many, those that are called by what they show."""
    counts = Counter(found)
    return max(counts, key=lambda each: (counts[each], each.agrees), default=None)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _shown(cell: Cell) -> str:
    prompt, index, who = cell
    return f"{' + '.join(who)} by prompt {prompt}, number {index}"
