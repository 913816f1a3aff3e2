"""When numbers of two records may stand in one column.

Benchmark and profile must agree, and a metric's version and extractor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fdlab.benchmarks.profiles import STRICT
from fdlab.metrics.registry import METRICS

How = tuple[str, str, str | None]
"""A metric's version, and its extractor's name and sha256."""


@dataclass(frozen=True)
class Basis:
    """What numbers rest on: those of one record, or of several that may stand together."""

    benchmark: Mapping[str, Any]
    measured_by: Mapping[str, How]
    """By the metric's name."""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Basis:
        """The basis of one record."""
        how = {
            name: (entry["version"], entry["extractor"]["name"], entry["extractor"]["sha256"])
            for name, entry in record["metrics"].items()
        }
        return cls(record["benchmark"], how)

    def differing(self, other: Basis) -> str | None:
        """The first thing that keeps numbers apart, in one line; None where they may stand together."""
        first, second = self.benchmark, other.benchmark
        if first["sha256"] != second["sha256"]:
            return f"their benchmarks differ: {described(first)} and {described(second)}"
        if profile_of(first) != profile_of(second):
            return f"their pictures were scored by profile {profile_of(first)} and {profile_of(second)}"
        for name in METRICS:
            how = [basis.measured_by[name] for basis in (self, other) if name in basis.measured_by]
            if len(set(how)) > 1:
                by = " and ".join(f"version {v} by {e} ({str(s)[:10]})" for v, e, s in how)
                return f"{name} is not measured alike: {by}"
        return None

    def joined(self, other: Basis) -> Basis:
        """The basis of both, where nothing is `differing`."""
        return Basis(self.benchmark, {**self.measured_by, **other.measured_by})


def profile_of(benchmark: Mapping[str, Any]) -> str:
    """How a record's pictures were scored; records older than profiles were scored strictly."""
    return str(benchmark.get("profile") or STRICT)


def described(benchmark: Mapping[str, Any]) -> str:
    """A record's benchmark in a few words; its profile where it is not the strict one."""
    profile = "" if profile_of(benchmark) == STRICT else f", profile {profile_of(benchmark)}"
    return (
        f"{benchmark['name']} v{benchmark['version']} ({benchmark['num_subjects']} subjects, "
        f"{benchmark['num_prompts']} prompts, {benchmark['images_per_prompt']} images each, "
        f"{benchmark['sha256'][:10]}{profile})"
    )
