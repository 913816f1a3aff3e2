"""Checks of a manifest's entries: each returns what is there, or says in one line what is wrong where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from fdlab.errors import UserError, unknown
from fdlab.foreign import LARGEST, is_count, is_texts, shown

PAIRS = "pairs"
SOURCE_KEYS = {"protocol", "prompts", "prompts_verified", "photos"}
LONGEST_ID = 60
LONGEST_NAME = 200
"""File systems allow 255 bytes, of which temporary names need some."""


def get(entry: Mapping[str, Any], key: str, path: Path) -> Any:
    """A value that must be there."""
    if key not in entry:
        raise UserError(f"'{key}' is missing in '{path}'.")
    return entry[key]


def check_id(entry: Mapping[str, Any], kind: str, path: Path) -> str:
    """An entry's id: letters, digits, '_' and '.', since ids become parts of file names."""
    value = get(entry, "id", path)
    value = str(value) if is_count(value, 0) else value
    fits = isinstance(value, str) and 0 < len(value) <= LONGEST_ID and not value.startswith(".")
    if not fits or any(not (c.isalnum() or c in "_.") for c in value):
        raise UserError(
            f"{kind} id {shown(value)} in '{path}'; allowed: letters, digits, '_' and '.', "
            f"{LONGEST_ID} at most."
        )
    return str(value)


def check_known(entry: Any, keys: Collection[str], where: str) -> None:
    """That an entry is an object without unknown keys."""
    if not isinstance(entry, dict):
        raise UserError(
            f"{where} is a {type(entry).__name__}; it must be an object with {', '.join(sorted(keys))}."
        )
    for key in entry:
        if key not in keys:
            raise unknown(f"key in {where}", key, keys)


def check_list(entry: Mapping[str, Any], key: str, path: Path) -> Sequence[Any]:
    """A list with something in it."""
    value = get(entry, key, path)
    if not isinstance(value, list) or not value:
        raise UserError(f"'{key}' in '{path}' must be a list with at least one entry.")
    return value


def check_text(entry: Mapping[str, Any], key: str, path: Path) -> str:
    """A text that must be there."""
    value = get(entry, key, path)
    if not isinstance(value, str):
        raise UserError(f"'{key}' in '{path}' is {shown(value)}; text is needed.")
    return value


def check_texts(entry: Mapping[str, Any], key: str, path: Path) -> tuple[str, ...]:
    """A list of texts."""
    value = get(entry, key, path)
    if not is_texts(value):
        raise UserError(f"'{key}' in '{path}' is {shown(value)}; a list of texts is needed.")
    return tuple(value)


def check_names(entry: Mapping[str, Any], key: str, path: Path) -> tuple[str, ...]:
    """A list of names of files."""
    names = check_texts(entry, key, path)
    for name in names:
        if max(len(part.encode()) for part in name.split("/")) > LONGEST_NAME:
            raise UserError(f"'{key}' in '{path}' names {shown(name)}, which no file can be called.")
    return names


def check_count(entry: Mapping[str, Any], key: str, path: Path, most: int) -> int:
    """A whole number from 1 to `most`."""
    value = get(entry, key, path)
    if not is_count(value, 1, most):
        raise UserError(f"'{key}' in '{path}' is {shown(value)}; allowed: a whole number from 1 to {most:,}.")
    return int(value)


def check_file(folder: Path, name: str, path: Path) -> Path:
    """A file of a benchmark, there or not, which must lie in its folder, links followed."""
    inside = folder / name
    try:
        within = inside.resolve().is_relative_to(folder.resolve())
        inside.is_file()
    except (OSError, RuntimeError, ValueError) as error:
        # A name too long, a link to itself, a NUL.
        raise UserError(f"'{path}' names {shown(name)}, which is no file's name.") from error
    if not within:
        raise UserError(
            f"'{path}' names {shown(name)}, which is outside of '{folder}'; pictures must lie within."
        )
    return inside


def check_unique(ids: Sequence[str], kind: str, path: Path) -> None:
    """That no id stands twice."""
    doubled = sorted(name for name, num in Counter(ids).items() if num > 1)
    if doubled:
        raise UserError(f"{kind} id '{doubled[0]}' stands twice in '{path}'; ids must be unique.")


def check_version(value: Any, path: Path) -> str:
    """A version: text, or a number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UserError(f"'version' in '{path}' is {shown(value)}; text or a number is needed.")
    return str(value)


def check_seed(value: Any, path: Path) -> int:
    """Any whole number."""
    if not is_count(value, -LARGEST):
        raise UserError(f"'seed' in '{path}' is {shown(value)}; a whole number is needed.")
    return int(value)


def check_source(given: Any, path: Path) -> Mapping[str, Any]:
    """Where a published benchmark comes from."""
    check_known(given, SOURCE_KEYS, f"'source' of {path}")
    photos = given.get("photos", {})
    if not isinstance(photos, dict) or not is_texts(list(photos.values())):
        raise UserError(f"'photos' in the source of '{path}' must be an object: file -> sha256.")
    return dict(given)


def check_groups(given: Any, subjects: Sequence[str], path: Path) -> tuple[tuple[str, ...], ...]:
    """Groups of one size, each of different known subjects; none twice, and nobody left out."""
    if given == PAIRS:
        if len(subjects) < 2:
            raise UserError(f"'groups' in '{path}' is '{PAIRS}', but there is only one subject.")
        return tuple(combinations(subjects, 2))
    if not isinstance(given, list) or not given or not all(g and is_texts(g) for g in given):
        raise UserError(
            f"'groups' in '{path}' is {shown(given)}; allowed: '{PAIRS}' or lists of subject ids."
        )
    groups = tuple(tuple(group) for group in given)
    known = set(subjects)
    for group in groups:
        for name in group:
            if name not in known:
                raise unknown(f"subject in a group of {path}", name, subjects)
        check_unique(group, f"group [{', '.join(group)}]: subject", path)
        if len(group) != len(groups[0]):
            raise UserError(
                f"group [{', '.join(group)}] in '{path}' has {len(group)} subjects, the first group "
                f"{len(groups[0])}; groups of one benchmark must be of one size."
            )
    check_unique(["-".join(group) for group in groups], "group", path)
    drawn = {name for group in groups for name in group}
    alone = [name for name in subjects if name not in drawn]
    if alone:
        raise UserError(f"subject '{alone[0]}' in '{path}' is in no group; every subject must be drawn.")
    return groups
