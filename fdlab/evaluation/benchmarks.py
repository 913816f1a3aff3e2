"""A benchmark as data: who is drawn, from which reference pictures, with which prompts, and what must exist.

A benchmark is a folder with a `benchmark.json`; this module reads it, checks every file it names and hashes
the lot. The hash covers the manifest *as used* (a smaller selection is another benchmark) and every picture
scored against.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fdlab.errors import UserError, unknown
from fdlab.files import sha256

MANIFEST = "benchmark.json"
MARKER = "<|image|>"
KEYS = {"name", "version", "size", "seed", "images_per_prompt", "subjects", "prompts", "real"}
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
    """A prompt with `{noun}` where the subject's noun goes and one marker behind it."""

    id: str
    text: str
    category: str = ""
    truth: Mapping[str, str] = field(default_factory=dict)
    """What the picture must show, by attribute; an absent attribute is not asked for."""


@dataclass(frozen=True)
class Benchmark:
    """Subjects x prompts x indices, with the folder the pictures lie in."""

    folder: Path
    name: str
    version: str
    size: int
    seed: int
    images_per_prompt: int
    subjects: tuple[Subject, ...]
    prompts: tuple[Prompt, ...]
    real: str | None = None
    """Template `real/{subject}-{prompt}-{index}.png` of true pictures, where they exist."""

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
        return {
            "name": self.name,
            "version": self.version,
            "size": self.size,
            "seed": self.seed,
            "images_per_prompt": self.images_per_prompt,
            "subjects": subjects,
            "prompts": prompts,
            "real": self.real,
        }

    def summary(self) -> dict[str, Any]:
        """The record's `benchmark` entry."""
        return {
            "name": self.name,
            "version": self.version,
            "sha256": self.sha256,
            "num_subjects": len(self.subjects),
            "num_prompts": len(self.prompts),
            "images_per_prompt": self.images_per_prompt,
        }

    def mask_of(self, picture: str) -> Path | None:
        """The person's mask of a reference picture, where the benchmark has one."""
        path = self.folder / "masks" / (Path(picture).stem + ".png")
        return path if path.is_file() else None

    def real_path(self, subject: str, prompt: str, index: int) -> Path:
        """The true picture of one cell; UserError where the benchmark has none."""
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
            cells = (
                (s, p, i) for s in self.subjects for p in self.prompts for i in range(self.images_per_prompt)
            )
            names += [self.real.format(subject=s.id, prompt=p.id, index=i) for s, p, i in cells]
        return names

    def limited(self, max_subjects: int = 0, max_prompts: int = 0, max_images: int = 0) -> Benchmark:
        """A smaller benchmark for quick runs: the first subjects, and prompts of all categories in turn; 0 is
        all."""
        for name, cap in (("subjects", max_subjects), ("prompts", max_prompts), ("images", max_images)):
            if cap < 0:
                raise UserError(f"max_{name}={cap}: must be 1 or more, or 0 for all.")
        images = min(max_images or self.images_per_prompt, self.images_per_prompt)
        subjects = self.subjects[: max_subjects or None]
        # The k-th prompt of every category before the (k+1)-th of any.
        seen: dict[str, int] = {}
        rank: dict[str, tuple[int, int]] = {}
        for position, prompt in enumerate(self.prompts):
            seen[prompt.category] = seen.get(prompt.category, -1) + 1
            rank[prompt.id] = (seen[prompt.category], position)
        kept = set(sorted(rank, key=lambda key: rank[key])[: max_prompts or None])
        prompts = tuple(prompt for prompt in self.prompts if prompt.id in kept)
        return replace(self, subjects=subjects, prompts=prompts, images_per_prompt=images)

    def subject(self, subject_id: str) -> Subject:
        """Look a subject up; UserError with the nearest match."""
        for subject in self.subjects:
            if subject.id == subject_id:
                return subject
        raise unknown("subject", subject_id, [s.id for s in self.subjects])


def load(folder: Path | str) -> Benchmark:
    """Read and check a benchmark folder. UserError on the first thing that is missing, doubled or unknown."""
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(f"no {MANIFEST} in '{folder}': not a benchmark folder (or one half written).")
    try:
        data = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"'{path}' is not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise UserError(f"'{path}' holds a {type(data).__name__}; it must hold an object.")
    _known(data, KEYS, str(path))
    subjects = tuple(_subject(entry, path) for entry in _list(data, "subjects", path))
    prompts = tuple(_prompt(entry, path) for entry in _list(data, "prompts", path))
    _unique([s.id for s in subjects], "subject", path)
    _unique([p.id for p in prompts], "prompt", path)
    benchmark = Benchmark(
        folder=folder,
        name=str(_get(data, "name", path)),
        version=str(data.get("version", "1")),
        size=_count(data, "size", path),
        seed=int(data.get("seed", 0)),
        images_per_prompt=_count(data, "images_per_prompt", path),
        subjects=subjects,
        prompts=prompts,
        real=data.get("real"),
    )
    _check_real(benchmark, path)
    for name in benchmark._files():
        if not (folder / name).is_file():
            raise UserError(f"benchmark '{benchmark.name}' names '{name}', which is missing in '{folder}'.")
    return benchmark


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
    _known(entry, SUBJECT_KEYS, f"a subject of {path}")
    references = tuple(_get(entry, "references", path))
    if not references:
        raise UserError(
            f"subject '{entry.get('id')}' in '{path}' has no reference picture; it needs one or more."
        )
    return Subject(
        id=_id(entry, "subject", path),
        noun=str(entry.get("noun", "person")),
        references=references,
        heldout=tuple(entry.get("heldout", ())),
        identity=entry.get("identity"),
    )


def _prompt(entry: Any, path: Path) -> Prompt:
    _known(entry, PROMPT_KEYS, f"a prompt of {path}")
    text = str(_get(entry, "text", path))
    if text.count(MARKER) != 1:
        raise UserError(
            f"prompt '{text}' in '{path}' has {text.count(MARKER)} markers {MARKER}; it needs exactly one."
        )
    try:
        text.format(noun="person")
    except (KeyError, IndexError, ValueError) as error:
        raise UserError(f"prompt '{text}' in '{path}': the only allowed placeholder is {{noun}}.") from error
    truth = entry.get("truth") or {}
    return Prompt(_id(entry, "prompt", path), text, str(entry.get("category", "")), dict(truth))


def _id(entry: Mapping[str, Any], kind: str, path: Path) -> str:
    value = str(_get(entry, "id", path))
    # Ids become parts of file names.
    if not value or any(not (c.isalnum() or c in "_.") for c in value) or value.startswith("."):
        raise UserError(f"{kind} id '{value}' in '{path}'; allowed: letters, digits, '_' and '.'.")
    return value


def _known(entry: Any, keys: set[str], where: str) -> None:
    if not isinstance(entry, dict):
        raise UserError(
            f"{where} is a {type(entry).__name__}; it must be an object with {', '.join(sorted(keys))}."
        )
    for key in entry:
        if key not in keys:
            raise unknown(f"key in {where}", key, keys)


def _get(entry: Mapping[str, Any], key: str, path: Path) -> Any:
    if key not in entry:
        raise UserError(f"'{key}' is missing in '{path}'.")
    return entry[key]


def _list(entry: Mapping[str, Any], key: str, path: Path) -> Sequence[Any]:
    value = _get(entry, key, path)
    if not isinstance(value, list) or not value:
        raise UserError(f"'{key}' in '{path}' must be a list with at least one entry.")
    return value


def _count(entry: Mapping[str, Any], key: str, path: Path) -> int:
    value = _get(entry, key, path)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"'{key}' in '{path}' is {value!r}; allowed: a whole number from 1.")
    return value


def _unique(ids: Sequence[str], kind: str, path: Path) -> None:
    doubled = sorted({i for i in ids if ids.count(i) > 1})
    if doubled:
        raise UserError(f"{kind} id '{doubled[0]}' stands twice in '{path}'; ids must be unique.")
