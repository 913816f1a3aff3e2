"""The folder beside a data set in the making: what each stage found, a note a picture, kept between runs.

    work/NAME-FINGERPRINT/ab/abcdef...json     what a stage found; the fingerprint is of all it depends on
    work/NAME-FINGERPRINT/ab/abcdef...jpg      the same, where it is a picture

A note is written last and whole: a stage that was killed goes on with the pictures that have none. Names of
photos and faces' embeddings are here, and never in the data set.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdlab import foreign
from fdlab.errors import UserError
from fdlab.files import fingerprint, write_json
from fdlab.progress import bar
from fdlab.workers import Maker, in_processes, made, worth_starting

CHUNK = 8
"""Pictures a job: what an interruption costs nothing of, for each picture is noted."""
WORTH = 32
"""Pictures that a process is worth starting for."""


@dataclass(frozen=True)
class Stage:
    """One step of the preparation, by what it is made of."""

    name: str
    folder: Path
    make: Maker
    """Makes the stage's function, (stage, key) -> note, once a process."""

    @classmethod
    def of(
        cls, work: Path, name: str, facts: Mapping[str, Any], function: Callable[..., Any], *arguments: str
    ) -> Stage:
        """A stage whose notes lie in the work folder, apart from those that other facts led to."""
        return cls(name, work / f"{name}-{fingerprint(facts)[:12]}", (function, *arguments))

    def path(self, key: str, suffix: str) -> Path:
        """Where something of a picture lies."""
        return self.folder / key[:2] / f"{key}{suffix}"

    def has(self, key: str) -> bool:
        """Whether a picture is done."""
        return self.path(key, ".json").is_file()

    def note(self, key: str) -> dict[str, Any]:
        """What was found of a picture. Raises: UserError."""
        found = foreign.read_json(self.path(key, ".json"), "note")
        if not isinstance(found, dict):
            raise UserError(f"note '{self.path(key, '.json')}' is damaged; remove it.")
        return found

    def run(self, keys: Sequence[str], workers: int = 0, show: bool = True) -> None:
        """Do all that is not done, in `workers` processes (0: one a core)."""
        keys = list(dict.fromkeys(keys))
        todo = [key for key in keys if not self.has(key)]
        jobs = [(self, tuple(todo[at : at + CHUNK])) for at in range(0, len(todo), CHUNK)]
        with bar(self.name, len(keys), done=len(keys) - len(todo), show=show) as progress:
            for num in in_processes(_do, jobs, worth_starting(workers, len(todo), WORTH)):
                progress.advance(num)


def _do(job: tuple[Stage, tuple[str, ...]]) -> int:
    stage, keys = job
    function = made(stage.make)
    for key in keys:
        write_json(stage.path(key, ".json"), function(stage, key), flush=False)
    return len(keys)


def missing(stages: Sequence[Stage], keys: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Stages by name that have not seen every picture, and how many are left."""
    for stage in stages:
        left = sum(not stage.has(key) for key in keys)
        if left:
            yield stage.name, left


def packed(value: Mapping[str, Any]) -> str:
    """Settings as a maker's argument."""
    return json.dumps(value, sort_keys=True)
