"""Find records below folders, check each, and put together what may be compared."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fdlab.errors import UserError, unknown
from fdlab.metrics import registry
from fdlab.metrics.registry import METRICS
from fdlab.records.comparability import Basis, described
from fdlab.records.record import RECORD, read


@dataclass(frozen=True)
class Entry:
    """One valid record and where it lies."""

    path: Path
    record: dict[str, Any]

    @cached_property
    def basis(self) -> Basis:
        """What its numbers rest on."""
        return Basis.of(self.record)

    @property
    def run(self) -> str:
        """The run or experiment it belongs to: the folder above `evaluation`."""
        parts = self.path.parent.parts
        # The last one counts: runs may lie below a folder that is called so too.
        place = max((i for i, part in enumerate(parts) if part == "evaluation" and i), default=0)
        return parts[place - 1] if place else self.path.parent.name


@dataclass
class Group:
    """Records whose numbers may stand in one table."""

    basis: Basis
    entries: list[Entry] = field(default_factory=list)
    ordered_by: str = ""
    """The metric that decides the order, empty where there is none."""

    @property
    def benchmark(self) -> Mapping[str, Any]:
        return self.basis.benchmark

    @property
    def title(self) -> str:
        return described(self.benchmark)

    def admits(self, entry: Entry) -> bool:
        """Whether a record's numbers may stand here."""
        return self.basis.differing(entry.basis) is None

    def add(self, entry: Entry) -> None:
        """Take a record in."""
        self.entries.append(entry)
        self.basis = self.basis.joined(entry.basis)

    def order(self, by: str | None = None) -> str:
        """Sort best first and return the metric that decides; records without it come last.

        `by` counts where a record of the group has it.
        """
        names = {name for entry in self.entries for name in entry.record["metrics"]}
        wanted = [by, *registry.ranked()] if by else registry.ranked()
        by = next((name for name in wanted if name in names), min(names, default=""))
        self.ordered_by = by
        if not by:
            return ""
        sign = -1 if METRICS[by].higher_is_better else 1

        def key(entry: Entry) -> tuple[bool, float, str]:
            found = entry.record["metrics"].get(by)
            return (found is None, 0.0 if found is None else sign * found["value"], str(entry.path))

        self.entries.sort(key=key)
        return by


def find(folders: Sequence[Path]) -> tuple[list[Entry], list[str]]:
    """All records below folders (or record files): the valid ones and one line for each that is not.

    Raises: UserError for a folder that does not exist.
    """
    entries, problems = [], []
    found: dict[Path, Path] = {}
    for file in (file for folder in folders for file in _records(folder)):
        found.setdefault(file.resolve(), file)
    for path, file in found.items():
        try:
            # A link is named as itself, wherever it leads.
            entries.append(Entry(relative(path), read(file if file.is_symlink() else path)))
        except UserError as error:
            problems.append(str(error))
    return entries, problems


def group(entries: Sequence[Entry], by: str | None = None) -> list[Group]:
    """Comparable groups, the largest first, then those of most people; within each the best first."""
    if by is not None and by not in METRICS:
        raise unknown("metric", by, METRICS)
    groups: list[Group] = []
    # Records with most metrics come first, so that the result depends on neither folder order nor file times.
    for entry in sorted(entries, key=lambda e: (-len(e.record["metrics"]), str(e.path))):
        home = next((g for g in groups if g.admits(entry)), None)
        if home is None:
            home = Group(entry.basis)
            groups.append(home)
        home.add(entry)
    for each in groups:
        each.order(by)
    return sorted(groups, key=lambda g: (-len(g.entries), -g.benchmark["num_subjects"], g.title))


def _records(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise UserError(f"no folder '{folder}'; give folders that hold runs, or nothing for the usual ones.")
    # A pattern, as a plain name passes over links that lead nowhere.
    return sorted(folder.rglob(f"{RECORD[:-1]}[{RECORD[-1]}]"))


def relative(path: Path) -> Path:
    """A path as seen from the current folder, where it lies below."""
    relative = Path(os.path.relpath(path))
    return path if relative.parts[:1] == ("..",) else relative
