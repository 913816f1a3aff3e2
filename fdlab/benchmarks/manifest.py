"""Checks of a manifest's entries: each returns what is there, or says in one line what is wrong where."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from fdlab.errors import UserError, unknown


def get(entry: Mapping[str, Any], key: str, path: Path) -> Any:
    """A value that must be there."""
    if key not in entry:
        raise UserError(f"'{key}' is missing in '{path}'.")
    return entry[key]


def check_id(entry: Mapping[str, Any], kind: str, path: Path) -> str:
    """An entry's id: letters, digits, '_' and '.', since ids become parts of file names."""
    value = str(get(entry, "id", path))
    if not value or any(not (c.isalnum() or c in "_.") for c in value) or value.startswith("."):
        raise UserError(f"{kind} id '{value}' in '{path}'; allowed: letters, digits, '_' and '.'.")
    return value


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


def check_count(entry: Mapping[str, Any], key: str, path: Path) -> int:
    """A whole number from 1."""
    value = get(entry, key, path)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"'{key}' in '{path}' is {value!r}; allowed: a whole number from 1.")
    return value


def check_unique(ids: Sequence[str], kind: str, path: Path) -> None:
    """That no id stands twice."""
    doubled = sorted({i for i in ids if ids.count(i) > 1})
    if doubled:
        raise UserError(f"{kind} id '{doubled[0]}' stands twice in '{path}'; ids must be unique.")
