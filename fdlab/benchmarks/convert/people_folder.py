"""Any folder of people and any list of prompts as a benchmark: PHOTOS/PERSON/*.jpg, or PHOTOS/PERSON.jpg."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fdlab.benchmarks.benchmark import PAIRS, Benchmark
from fdlab.benchmarks.convert import folder as folders
from fdlab.benchmarks.convert import prompt_lists
from fdlab.benchmarks.convert.photos import SUFFIXES, Photo, look, photos_in, skipped_in
from fdlab.benchmarks.manifest import check_unique
from fdlab.data.captions import MARKER
from fdlab.errors import UserError, unknown
from fdlab.foreign import shown

NOUN = "person"


def convert(
    photos: Path,
    prompts: Path,
    out: Path,
    nouns: Mapping[str, str] | None = None,
    noun: str = NOUN,
    size: int = 128,
    images: int = 1,
    pairs: bool = False,
    name: str | None = None,
) -> Benchmark:
    """Write the benchmark `out`: each person's first photo is the reference, the others are held out.

    `nouns`: person -> noun, `noun` for all others; `size` is what the backbone draws, in pixels; `pairs`
    draws all pairs of people. Raises: UserError before anything is written.
    """
    folders.check_free(out)
    people = find(photos)
    nouns = dict(nouns or {})
    for person in nouns:
        if person not in people:
            raise unknown("person in --noun", person, people)
    for word in (noun, *nouns.values()):
        if not word.strip() or any(mark in word for mark in (MARKER, "{", "}")):
            raise UserError(f"noun '{word}'; a word such as woman, man or person is needed.")
    texts = prompt_lists.read(prompts)
    copies: dict[str, Photo] = {}
    subjects = []
    for person, paths in people.items():
        first, *others = (look(path) for path in paths)
        reference = f"references/{person}{first.suffix}"
        heldout = {f"heldout/{person}-{k}{other.suffix}": other for k, other in enumerate(others, 1)}
        copies |= {reference: first, **heldout}
        word = nouns.get(person, noun).strip()
        subjects.append({"id": person, "noun": word, "references": [reference], "heldout": list(heldout)})
    manifest: dict[str, Any] = {
        "name": name or out.name,
        "version": "1",
        "size": size,
        "seed": 0,
        "images_per_prompt": images,
        "subjects": subjects,
        "prompts": texts,
    }
    if pairs:
        manifest["groups"] = PAIRS
    return folders.write(out, manifest, copies, prompts)


def find(folder: Path) -> dict[str, list[Path]]:
    """Every person's photos by name: folders of photos, or single photos called as the person is.

    UserError where there is nobody, somebody without a photo, or a name that cannot be part of a file's.
    """
    if not folder.is_dir():
        raise UserError(f"no folder '{folder}' with photos; give PHOTOS/PERSON/*.jpg, or PHOTOS/PERSON.jpg.")
    inside, loose = _folders(folder), photos_in(folder)
    if inside and loose:
        raise UserError(
            f"'{folder}' holds folders ('{inside[0].name}') and pictures ('{loose[0].name}'); "
            "give one folder a person, or one picture a person."
        )
    people = {path.name: photos_in(path) for path in inside} or {path.stem: [path] for path in loose}
    names = [path.name for path in inside] or [path.stem for path in loose]
    if not people:
        raise UserError(f"no photo in '{folder}'; allowed: {', '.join(SUFFIXES)}.{_hint(folder)}")
    check_unique(names, "person", folder)
    for person, paths in people.items():
        good = "".join(c if c.isalnum() or c in "_." else "_" for c in person)
        if person != good:
            raise UserError(
                f"person '{person}' in '{folder}': allowed in names are letters, digits, '_' and '.'; "
                f"rename it, to '{good}' for example."
            )
        if not paths:
            raise UserError(
                f"person '{person}' has no photo in '{folder / person}'; allowed: {', '.join(SUFFIXES)}."
                f"{_hint(folder / person)}"
            )
    return people


def skipped(folder: Path) -> list[str]:
    """What of a folder of people is no photo: a line for each reason, with how many there are and the first
    names."""
    by_reason: dict[str, list[str]] = {}
    for place in (folder, *_folders(folder)):
        for path, why in skipped_in(place).items():
            by_reason.setdefault(why, []).append(path.relative_to(folder).as_posix())
        if place != folder:
            deeper = [f"{path.relative_to(folder).as_posix()}/" for path in _folders(place)]
            if deeper:
                by_reason.setdefault("a folder within a person's", []).extend(deeper)
    return [
        f"{len(names)} ({why}): {', '.join(map(shown, names[:3]))}{', ...' if len(names) > 3 else ''}"
        for why, names in by_reason.items()
    ]


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _hint(folder: Path) -> str:
    lines = skipped(folder)
    return f" Skipped: {'; '.join(lines)}." if lines else ""
