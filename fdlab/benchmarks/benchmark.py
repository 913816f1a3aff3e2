"""A benchmark as data: who is drawn, from which reference pictures, with which prompts, and what must exist.

A benchmark is a folder with a `benchmark.json`; this module reads it, checks every file it names and hashes
the lot. The hash covers the manifest *as used* (a smaller selection is another benchmark) and every picture
scored against.

Pictures show one subject each, or, where the manifest has `groups`, the subjects of a group: "pairs" for all
pairs, or lists of ids. A prompt then has as many markers as a group has subjects, in the group's order, with
`{noun}`, `{noun2}`, `{noun3}` ... where their nouns go.

A `source` says where a published benchmark comes from: `protocol` (text), `prompts_verified` (whether their
digest is the published one) and `photos` (file -> sha256), which are checked again. It is not hashed: what it
speaks of is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

from fdlab.benchmarks import profiles
from fdlab.benchmarks.manifest import check_count, check_id, check_known, check_list, check_unique, get
from fdlab.data.captions import MARKER
from fdlab.errors import UserError, unknown
from fdlab.files import sha256

MANIFEST = "benchmark.json"
PAIRS = "pairs"
KEYS = {
    "name", "version", "size", "seed", "images_per_prompt", "subjects", "groups", "prompts", "real", "source",
}  # fmt: skip
SOURCE_KEYS = {"protocol", "prompts", "prompts_verified", "photos"}
SUBJECT_KEYS = {"id", "noun", "identity", "references", "heldout"}
PROMPT_KEYS = {"id", "category", "text", "truth"}


@dataclass(frozen=True)
class Subject:
    """A person of the benchmark."""

    id: str
    noun: str
    references: tuple[str, ...]
    """Pictures the method may see, relative to the benchmark's folder. The first is the one that is scored
    against."""
    heldout: tuple[str, ...] = ()
    """Other pictures of the same person, never shown to the method."""
    identity: int | None = None


@dataclass(frozen=True)
class Prompt:
    """A prompt with `{noun}` (`{noun2}` ...) where a subject's noun goes and a marker behind it."""

    id: str
    text: str
    category: str = ""
    truth: Mapping[str, str] = field(default_factory=dict)
    """What the picture must show, by attribute; an absent attribute is not asked for."""

    def of(self, subjects: Sequence[Subject]) -> str:
        """The text with the subjects' nouns: `a woman <|image|> on a beach`."""
        return self.text.format(**{noun_key(k): subject.noun for k, subject in enumerate(subjects)})


@dataclass(frozen=True)
class Benchmark:
    """Groups of subjects x prompts x indices, with the folder the pictures lie in."""

    folder: Path
    name: str
    version: str
    size: int
    seed: int
    images_per_prompt: int
    subjects: tuple[Subject, ...]
    prompts: tuple[Prompt, ...]
    real: str | None = None
    """Template `real/{subject}-{prompt}-{index}.png` of true pictures, where they exist; a group's
    `{subject}` is `group_id`."""
    groups: tuple[tuple[str, ...], ...] | None = None
    """Ids of those drawn together, in the order of a prompt's markers; None draws every subject alone."""
    source: Mapping[str, Any] = field(default_factory=dict)
    """Where a published benchmark comes from, empty for others."""
    profile: str = profiles.STRICT
    """How pictures are scored, see `profiles`. No part of the digest."""
    departures: tuple[str, ...] = ()
    """How measuring departs from the profile, one line each."""

    @property
    def drawn(self) -> list[tuple[Subject, ...]]:
        """Whom pictures show: every group, or every subject alone."""
        if self.groups is None:
            return [(subject,) for subject in self.subjects]
        by_id = {subject.id: subject for subject in self.subjects}
        return [tuple(by_id[name] for name in group) for group in self.groups]

    @property
    def subjects_per_picture(self) -> int:
        """How many subjects a picture shows."""
        return len(self.groups[0]) if self.groups else 1

    def cells(self) -> Iterator[tuple[tuple[Subject, ...], Prompt, int]]:
        """Every picture: whom it shows, the prompt and the index, in a fixed order."""
        for group in self.drawn:
            for prompt in self.prompts:
                for index in range(self.images_per_prompt):
                    yield group, prompt, index

    @cached_property
    def sha256(self) -> str:
        """Digest of the manifest as used and of every reference, mask, held-out and real picture it names."""
        lines = [json.dumps(self.manifest(), sort_keys=True, separators=(",", ":"))]
        lines += [f"{name} {sha256(self.folder / name)}" for name in sorted(self._files())]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def manifest(self) -> dict[str, Any]:
        """The benchmark as its JSON would be written, selection applied."""
        subjects = [
            {
                "id": s.id,
                "noun": s.noun,
                "identity": s.identity,
                "references": list(s.references),
                "heldout": list(s.heldout),
            }
            for s in self.subjects
        ]
        prompts = [
            {"id": p.id, "category": p.category, "text": p.text, "truth": dict(p.truth)} for p in self.prompts
        ]
        # Absent without groups, so that the digest of such a benchmark is what it was before there were any.
        groups = {} if self.groups is None else {"groups": [list(group) for group in self.groups]}
        return {
            "name": self.name,
            "version": self.version,
            "size": self.size,
            "seed": self.seed,
            "images_per_prompt": self.images_per_prompt,
            "subjects": subjects,
            "prompts": prompts,
            "real": self.real,
            **groups,
        }

    def summary(self) -> dict[str, Any]:
        """The record's `benchmark` entry."""
        more: dict[str, Any] = {"num_groups": len(self.groups)} if self.groups else {}
        if self.source:
            more["prompts_verified"] = bool(self.source.get("prompts_verified"))
        more["profile"] = self.profile
        if self.departures:
            more["departures"] = list(self.departures)
        return {
            "name": self.name,
            "version": self.version,
            "sha256": self.sha256,
            "num_subjects": len(self.subjects),
            "num_prompts": len(self.prompts),
            "images_per_prompt": self.images_per_prompt,
            **more,
        }

    def scored(self, profile: str) -> Benchmark:
        """The same benchmark, its pictures scored by another profile. Raises: UserError."""
        return replace(self, profile=profiles.profile_of(profile).name)

    def mask_of(self, picture: str) -> Path | None:
        """The person's mask of a reference picture, where the benchmark has one."""
        path = self.folder / "masks" / (Path(picture).stem + ".png")
        return path if path.is_file() else None

    def real_path(self, subject: str, prompt: str, index: int) -> Path:
        """The true picture of one cell, `subject` being an id or a group's; UserError where there is none."""
        if self.real is None:
            raise UserError(
                f"benchmark '{self.name}' has no real pictures ('real' is null in {self.folder / MANIFEST})."
            )
        return self.folder / self.real.format(subject=subject, prompt=prompt, index=index)

    def _files(self) -> list[str]:
        names = [name for s in self.subjects for name in (*s.references, *s.heldout)]
        masks = [self.mask_of(name) for s in self.subjects for name in s.references]
        names += sorted({mask.relative_to(self.folder).as_posix() for mask in masks if mask})
        if self.real:
            names += [
                self.real.format(subject=group_id(group), prompt=prompt.id, index=index)
                for group, prompt, index in self.cells()
            ]
        return names

    def limited(self, max_subjects: int = 0, max_prompts: int = 0, max_images: int = 0) -> Benchmark:
        """A smaller benchmark for quick runs: the first subjects (and the groups of these alone), and prompts
        of all categories in turn; 0 is all. UserError where no group is left."""
        for name, cap in (("subjects", max_subjects), ("prompts", max_prompts), ("images", max_images)):
            if cap < 0:
                raise UserError(f"max_{name}={cap}: must be 1 or more, or 0 for all.")
        images = min(max_images or self.images_per_prompt, self.images_per_prompt)
        subjects = self.subjects[: max_subjects or None]
        groups = self.groups
        if groups is not None:
            first = {subject.id for subject in subjects}
            groups = tuple(group for group in groups if first.issuperset(group))
            if not groups:
                raise UserError(
                    f"max_subjects={max_subjects} leaves no whole group of benchmark '{self.name}', which "
                    f"draws {self.subjects_per_picture} subjects together; give more, or 0 for all."
                )
            left = {name for group in groups for name in group}
            subjects = tuple(subject for subject in subjects if subject.id in left)
        # The k-th prompt of every category before the (k+1)-th of any.
        seen: dict[str, int] = {}
        rank: dict[str, tuple[int, int]] = {}
        for position, prompt in enumerate(self.prompts):
            seen[prompt.category] = seen.get(prompt.category, -1) + 1
            rank[prompt.id] = (seen[prompt.category], position)
        kept = set(sorted(rank, key=lambda key: rank[key])[: max_prompts or None])
        prompts = tuple(prompt for prompt in self.prompts if prompt.id in kept)
        return replace(self, subjects=subjects, prompts=prompts, images_per_prompt=images, groups=groups)

    def subject(self, subject_id: str) -> Subject:
        """Look a subject up; UserError with the nearest match."""
        for subject in self.subjects:
            if subject.id == subject_id:
                return subject
        raise unknown("subject", subject_id, [s.id for s in self.subjects])


def noun_key(position: int) -> str:
    """The placeholder of a prompt's subject, counted from 0: noun, noun2, noun3 ..."""
    return "noun" if position == 0 else f"noun{position + 1}"


def group_id(group: Sequence[Subject]) -> str:
    """How file names and rows call those drawn together: their ids with '-' between, which no id contains."""
    return "-".join(subject.id for subject in group)


def load(folder: Path | str) -> Benchmark:
    """Read and check a benchmark folder. UserError on the first thing that is missing, doubled or unknown."""
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(
            f"no {MANIFEST} in '{folder}': not a benchmark folder (or one half written); "
            "`python -m fdlab data convert` makes one."
        )
    try:
        data = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"'{path}' is not valid JSON: {error}") from error
    benchmark = parse(data, folder, path)
    for name in benchmark._files():
        if not (folder / name).is_file():
            raise UserError(f"benchmark '{benchmark.name}' names '{name}', which is missing in '{folder}'.")
    for name, digest in benchmark.source.get("photos", {}).items():
        if not (folder / name).is_file() or sha256(folder / name) != digest:
            raise UserError(
                f"'{folder / name}' is not the photo that '{path}' was made with (sha256 {digest}); "
                "convert it again."
            )
    return benchmark


def parse(data: Any, folder: Path, path: Path) -> Benchmark:
    """Check a manifest, but not whether its files are there; `path` is what messages name. Raises:
    UserError."""
    if not isinstance(data, dict):
        raise UserError(f"'{path}' holds a {type(data).__name__}; it must hold an object.")
    check_known(data, KEYS, str(path))
    subjects = tuple(_subject(entry, path) for entry in check_list(data, "subjects", path))
    check_unique([s.id for s in subjects], "subject", path)
    groups = _groups(data["groups"], [s.id for s in subjects], path) if "groups" in data else None
    num = len(groups[0]) if groups else 1
    prompts = tuple(_prompt(entry, num, path) for entry in check_list(data, "prompts", path))
    check_unique([p.id for p in prompts], "prompt", path)
    benchmark = Benchmark(
        folder=folder,
        name=str(get(data, "name", path)),
        version=str(data.get("version", "1")),
        size=check_count(data, "size", path),
        seed=int(data.get("seed", 0)),
        images_per_prompt=check_count(data, "images_per_prompt", path),
        subjects=subjects,
        prompts=prompts,
        real=data.get("real"),
        groups=groups,
        source=_source(data.get("source", {}), path),
    )
    _check_real(benchmark, path)
    return benchmark


def _source(given: Any, path: Path) -> Mapping[str, Any]:
    check_known(given, SOURCE_KEYS, f"'source' of {path}")
    if not isinstance(given.get("photos", {}), dict):
        raise UserError(f"'photos' in the source of '{path}' must be an object: file -> sha256.")
    return dict(given)


def _check_real(benchmark: Benchmark, path: Path) -> None:
    if benchmark.real is None:
        return
    try:
        first = benchmark.real.format(subject="a", prompt="b", index=0)
        other = benchmark.real.format(subject="c", prompt="d", index=1)
    except (KeyError, IndexError, ValueError) as error:
        raise UserError(
            f"'real' in '{path}' is '{benchmark.real}'; allowed: {{subject}}, {{prompt}}, {{index}}."
        ) from error
    if first == other:
        raise UserError(
            f"'real' in '{path}' names one file for all; it needs {{subject}}, {{prompt}} and {{index}}."
        )


def _subject(entry: Any, path: Path) -> Subject:
    check_known(entry, SUBJECT_KEYS, f"a subject of {path}")
    references = tuple(get(entry, "references", path))
    if not references:
        raise UserError(
            f"subject '{entry.get('id')}' in '{path}' has no reference picture; it needs one or more."
        )
    return Subject(
        id=check_id(entry, "subject", path),
        noun=str(entry.get("noun", "person")),
        references=references,
        heldout=tuple(entry.get("heldout", ())),
        identity=entry.get("identity"),
    )


def _groups(given: Any, subjects: Sequence[str], path: Path) -> tuple[tuple[str, ...], ...]:
    """Groups of one size, each of different known subjects; none twice, and nobody left out."""
    if given == PAIRS:
        if len(subjects) < 2:
            raise UserError(f"'groups' in '{path}' is '{PAIRS}', but there is only one subject.")
        return tuple(combinations(subjects, 2))
    if not isinstance(given, list) or not given or not all(isinstance(g, list) and g for g in given):
        raise UserError(f"'groups' in '{path}' is {given!r}; allowed: '{PAIRS}' or lists of subject ids.")
    groups = tuple(tuple(str(name) for name in group) for group in given)
    for group in groups:
        for name in group:
            if name not in subjects:
                raise unknown(f"subject in a group of {path}", name, subjects)
        check_unique(group, f"group [{', '.join(group)}]: subject", path)
        if len(group) != len(groups[0]):
            raise UserError(
                f"group [{', '.join(group)}] in '{path}' has {len(group)} subjects, the first group "
                f"{len(groups[0])}; groups of one benchmark must be of one size."
            )
    check_unique(["-".join(group) for group in groups], "group", path)
    alone = [name for name in subjects if not any(name in group for group in groups)]
    if alone:
        raise UserError(f"subject '{alone[0]}' in '{path}' is in no group; every subject must be drawn.")
    return groups


def _prompt(entry: Any, num_subjects: int, path: Path) -> Prompt:
    check_known(entry, PROMPT_KEYS, f"a prompt of {path}")
    text = str(get(entry, "text", path))
    if text.count(MARKER) != num_subjects:
        needed = "exactly one" if num_subjects == 1 else f"{num_subjects}, one for each subject of a group"
        raise UserError(
            f"prompt '{text}' in '{path}' has {text.count(MARKER)} markers {MARKER}; it needs {needed}."
        )
    keys = [noun_key(k) for k in range(num_subjects)]
    try:
        text.format(**dict.fromkeys(keys, "person"))
    except (KeyError, IndexError, ValueError) as error:
        allowed = " and ".join(f"{{{key}}}" for key in keys)
        are = "placeholder is" if num_subjects == 1 else "placeholders are"
        raise UserError(f"prompt '{text}' in '{path}': the only allowed {are} {allowed}.") from error
    truth = entry.get("truth") or {}
    return Prompt(check_id(entry, "prompt", path), text, str(entry.get("category", "")), dict(truth))
