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
from pathlib import Path
from typing import Any

from fdlab import foreign, template
from fdlab.benchmarks import profiles
from fdlab.benchmarks.manifest import (
    LONGEST_NAME,
    PAIRS,
    check_count,
    check_file,
    check_groups,
    check_id,
    check_known,
    check_list,
    check_names,
    check_seed,
    check_source,
    check_text,
    check_unique,
    check_version,
)
from fdlab.data import whom
from fdlab.data.captions import MARKER
from fdlab.errors import UserError, unknown
from fdlab.files import sha256
from fdlab.foreign import shown

MANIFEST = "benchmark.json"
KEYS = {
    "name", "version", "size", "seed", "images_per_prompt", "subjects", "groups", "prompts", "real", "source",
}  # fmt: skip
REAL_KEYS = ("subject", "prompt", "index")
MOST_PICTURES, LARGEST_SIZE = 10_000_000, 16_384
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
        return template.fill(self.text, **{noun_key(k): subject.noun for k, subject in enumerate(subjects)})


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
        lines += [f"{name} {sha256(self.folder / name)}" for name in sorted(self.files())]
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
        identities = [subject.identity for subject in self.subjects]
        if all(number is not None for number in identities):
            # Rendered people have numbers, so that a record can say whether a training saw them.
            more["people"] = whom.spans(number for number in identities if number is not None)
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
        return self.folder / template.fill(self.real, subject=subject, prompt=prompt, index=index)

    def files(self) -> list[str]:
        """Every picture that is scored against, and every mask, relative to the folder."""
        names = [name for s in self.subjects for name in (*s.references, *s.heldout)]
        masks = [self.mask_of(name) for s in self.subjects for name in s.references]
        names += sorted({mask.relative_to(self.folder).as_posix() for mask in masks if mask})
        if self.real:
            names += [
                template.fill(self.real, subject=group_id(group), prompt=prompt.id, index=index)
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
    """Read and check a benchmark folder. UserError on the first thing that is missing, doubled, unknown or
    outside of the folder."""
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(
            f"no {MANIFEST} in '{folder}': not a benchmark folder (or one half written); "
            "`python -m fdlab data convert` makes one."
        )
    benchmark = parse(foreign.read_json(path, "file"), folder, path)
    for name in benchmark.files():
        if not check_file(folder, name, path).is_file():
            raise UserError(f"benchmark '{benchmark.name}' names '{name}', which is missing in '{folder}'.")
    for name, digest in benchmark.source.get("photos", {}).items():
        photo = check_file(folder, name, path)
        if not photo.is_file() or sha256(photo) != digest:
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
    images = check_count(data, "images_per_prompt", path, MOST_PICTURES)
    listed = check_list(data, "prompts", path)
    pairs = data.get("groups") == PAIRS
    drawn = len(subjects) * (len(subjects) - 1) // 2 if pairs else len(subjects)
    if drawn * len(listed) * images > MOST_PICTURES:
        raise UserError(f"'{path}' asks for more than {MOST_PICTURES:,} pictures.")
    groups = check_groups(data["groups"], [s.id for s in subjects], path) if "groups" in data else None
    num = len(groups[0]) if groups else 1
    prompts = tuple(_prompt(entry, num, path) for entry in listed)
    check_unique([p.id for p in prompts], "prompt", path)
    real = data.get("real")
    benchmark = Benchmark(
        folder=folder,
        name=check_text(data, "name", path),
        version=check_version(data.get("version", "1"), path),
        size=check_count(data, "size", path, LARGEST_SIZE),
        seed=check_seed(data.get("seed", 0), path),
        images_per_prompt=images,
        subjects=subjects,
        prompts=prompts,
        real=None if real is None else check_text(data, "real", path),
        groups=groups,
        source=check_source(data.get("source", {}), path),
    )
    _check_real(benchmark, path)
    called = [max(ids, key=len) for ids in ([group_id(g) for g in benchmark.drawn], [p.id for p in prompts])]
    if len("-".join([*called, "9999999.png"]).encode()) > LONGEST_NAME:
        raise UserError(f"ids of '{path}' are too long together: pictures are called by them.")
    return benchmark


def _check_real(benchmark: Benchmark, path: Path) -> None:
    if benchmark.real is None:
        return
    template.check(benchmark.real, REAL_KEYS, f"'real' in '{path}' is '{benchmark.real}'")
    first = template.fill(benchmark.real, subject="a", prompt="b", index=0)
    other = template.fill(benchmark.real, subject="c", prompt="d", index=1)
    if first == other:
        raise UserError(
            f"'real' in '{path}' names one file for all; it needs {{subject}}, {{prompt}} and {{index}}."
        )


def _subject(entry: Any, path: Path) -> Subject:
    check_known(entry, SUBJECT_KEYS, f"a subject of {path}")
    references = check_names(entry, "references", path)
    if not references:
        raise UserError(
            f"subject {shown(entry.get('id'))} in '{path}' has no reference picture; it needs one or more."
        )
    identity = entry.get("identity")
    if identity is not None and not foreign.is_count(identity, 0):
        raise UserError(f"'identity' in '{path}' is {shown(identity)}; a whole number from 0 is needed.")
    return Subject(
        id=check_id(entry, "subject", path),
        noun=check_text({"noun": "person", **entry}, "noun", path),
        references=references,
        heldout=check_names({"heldout": [], **entry}, "heldout", path),
        identity=identity,
    )


def _prompt(entry: Any, num_subjects: int, path: Path) -> Prompt:
    check_known(entry, PROMPT_KEYS, f"a prompt of {path}")
    text = check_text(entry, "text", path)
    if text.count(MARKER) != num_subjects:
        needed = "exactly one" if num_subjects == 1 else f"{num_subjects}, one for each subject of a group"
        raise UserError(
            f"prompt {shown(text)} in '{path}' has {text.count(MARKER)} markers {MARKER}; it needs {needed}."
        )
    template.check(text, [noun_key(k) for k in range(num_subjects)], f"prompt {shown(text)} in '{path}'")
    truth = entry.get("truth") or {}
    if not isinstance(truth, dict) or not foreign.is_texts(list(truth.values())):
        raise UserError(
            f"'truth' in '{path}' is {shown(truth)}; an object of attributes and texts is needed."
        )
    category = check_text({"category": "", **entry}, "category", path)
    return Prompt(check_id(entry, "prompt", path), text, category, dict(truth))
