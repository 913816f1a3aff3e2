"""Which benchmark a configuration names: rendered people, a folder, or none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from fdlab.benchmarks import benchmark as benchmarks
from fdlab.benchmarks import profiles
from fdlab.benchmarks.benchmark import Benchmark
from fdlab.errors import UserError, unknown
from fdlab.people import benchmark as rendered

PEOPLE, FOLDER, NONE = KINDS = ("people", "folder", "none")
VALIDATION = "people_validation"
"""The embedded benchmark for choosing settings and weights."""


@dataclass(frozen=True)
class BenchmarkSettings:
    """conf/benchmark. An unknown `kind` or `profile` raises UserError."""

    kind: str
    name: str
    folder: Path
    max_subjects: int = 0
    max_prompts: int = 0
    max_images: int = 0
    profile: str = profiles.STRICT
    batch_size: int = 16
    baselines: bool = True

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("benchmark.kind", self.kind, KINDS)
        profiles.profile_of(self.profile)

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> BenchmarkSettings:
        """From the configuration's `benchmark`."""
        known = {item.name: given[item.name] for item in fields(cls) if item.name in given}
        return cls(**{**known, "folder": Path(str(given["folder"] or "")).expanduser()})

    @classmethod
    def validation(
        cls, cache: Path, folder: str | None, max_subjects: int, max_prompts: int
    ) -> BenchmarkSettings:
        """The benchmark to validate on: a folder of the user's, or people of its own below `cache`."""
        where = cache / "benchmarks" / VALIDATION if folder is None else Path(folder).expanduser()
        kind = PEOPLE if folder is None else FOLDER
        return cls(kind, VALIDATION, where, max_subjects, max_prompts, max_images=1)

    def open(self) -> Benchmark:
        """The benchmark, limited; if it is one of rendered people, what is missing of that is rendered first.
        Raises: UserError."""
        if self.kind != PEOPLE:
            return self.outline()
        # A folder a version: what an older renderer left is neither mixed in nor thrown away.
        asked = replace(self.outline(), folder=self.folder / f"v{rendered.manifest(self.name)['version']}")
        subjects, prompts = ({entry.id for entry in entries} for entries in (asked.subjects, asked.prompts))
        rendered.render(asked.folder, self.name, subjects, prompts)
        return asked

    def outline(self) -> Benchmark:
        """The same without rendering: its pictures may not be there yet. Raises: UserError."""
        self._check_there()
        if self.kind == PEOPLE:
            path = self.folder / benchmarks.MANIFEST
            return self._limited(benchmarks.parse(rendered.manifest(self.name), self.folder, path))
        return self._limited(benchmarks.load(self.folder))

    def _limited(self, found: Benchmark) -> Benchmark:
        limits = (self.max_subjects, self.max_prompts, self.max_images)
        return found.limited(*limits).scored(self.profile)

    def _check_there(self) -> None:
        if self.kind == NONE:
            raise UserError(
                f"benchmark={NONE}: there is nothing to evaluate on; choose one with pictures as large as "
                "the backbone draws, as in benchmark=own benchmark.folder=DIR."
            )
