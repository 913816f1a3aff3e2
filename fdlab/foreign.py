"""Files that others wrote, read so that any damage costs one line: no traceback, no hang, no flood of memory.

What `read_json`, `parse_json` and `read_yaml` give is safe to print and to write; the reader of a format then
says what of it is allowed.
"""

from __future__ import annotations

import gzip
import json
import math
import reprlib
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

from fdlab.errors import UserError

MOST_BYTES = 1 << 28
"""The largest file that is read whole, unless a format says otherwise."""
DEEPEST = 40
"""Lists and objects within each other."""
MOST_NODES, MOST_CONFIG = 100_000, 1 << 20
"""Values, and bytes, of a configuration."""
LARGEST = 1 << 64
"""The largest whole number: seeds and counts have at most 63 bits."""

_short = reprlib.Repr()
_short.maxlevel, _short.maxstring, _short.maxother, _short.maxlong = 3, 60, 60, 40


def shown(value: Any) -> str:
    """A value as messages show it: short, on one line."""
    return _short.repr(value)


def said(error: BaseException) -> str:
    """What an exception says, short, on one line, without a full stop; its name where it says nothing."""
    words = " ".join("".join(c if c.isprintable() else " " for c in str(error)[:300]).split())
    return words.rstrip(".") or type(error).__name__


def text(path: Path, kind: str, most: int | None = None) -> str:
    """The text of a file of at most `most` bytes (None: MOST_BYTES); `kind` is what messages call it.

    UserError where it is missing, no file, too large, unreadable or not UTF-8.
    """
    name = f"{kind} {shown(str(path))}" if not str(path).isprintable() else f"{kind} '{path}'"
    try:
        if not path.exists():
            gone = path.is_symlink()
            raise UserError(f"{name} cannot be read: a link that leads nowhere." if gone else f"no {name}.")
        # A pipe or a device never ends.
        if not path.is_file():
            raise UserError(f"{name} cannot be read: it is no file.")
        most = MOST_BYTES if most is None else most
        if path.stat().st_size > most:
            raise UserError(f"{name} has more than {most:,} bytes.")
        return decoded(path.read_bytes(), name)
    except OSError as error:
        raise UserError(f"{name} cannot be read: {error.strerror}.") from error


def unpacked(path: Path, kind: str, most: int | None = None) -> str:
    """The text of a file packed with gzip, of at most `most` bytes packed or not. UserError as `text`."""
    name, most = f"{kind} '{path}'", MOST_BYTES if most is None else most
    try:
        if not path.is_file():
            raise UserError(f"{name} cannot be read: it is no file.")
        with gzip.open(path) as stream:
            data = stream.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{name} cannot be unpacked: {said(error)}.") from error
    if len(data) > most:
        raise UserError(f"{name} has more than {most:,} bytes.")
    return decoded(data, name)


def decoded(data: bytes, name: str) -> str:
    """The text in a file's bytes; `name` is what messages call it. UserError where it is not UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not text in UTF-8 (byte {error.start}).") from error


def read_json(path: Path, kind: str, most: int | None = None) -> Any:
    """The value of a JSON file of at most `most` bytes. UserError as `text`, and as `parse_json`."""
    return parse_json(text(path, kind, most), f"{kind} '{path}'")


def read_yaml(path: Path, kind: str) -> Any:
    """The value of a YAML file of plain values. UserError as `text`, for what is no YAML, and what `problem`
    finds."""
    import yaml

    name = f"{kind} '{path}'"
    try:
        value = yaml.safe_load(text(path, kind))
    except yaml.YAMLError as error:
        raise UserError(f"{name} is not valid YAML: {' '.join(str(error).split())}.") from error
    except RecursionError as error:
        raise UserError(f"{name} is nested too deeply.") from error
    except UserError:
        raise
    except (ValueError, LookupError, AttributeError, TypeError, ArithmeticError) as error:
        # PyYAML's constructors of dates, numbers and truth values raise these for what is none.
        raise UserError(f"{name} is not valid YAML: a value does not fit its tag.") from error
    found = problem(value)
    if found:
        raise UserError(f"{name} {found}.")
    return value


def check_config(path: Path, kind: str) -> list[str]:
    """Every scalar of a YAML file as a reader gets it, escapes undone, before anything is made of it.

    UserError for what is no YAML, too large or too deep, and for anchors and aliases, which let a small file
    grow without end.
    """
    import yaml

    name, depth = f"{kind} '{path}'", 0
    scalars: list[str] = []
    try:
        for number, event in enumerate(yaml.parse(text(path, kind, MOST_CONFIG), Loader=yaml.SafeLoader)):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
                raise UserError(f"{name} holds an anchor or an alias, which no run writes.")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise UserError(f"{name} is nested more than {DEEPEST} deep.")
            if number > MOST_NODES:
                raise UserError(f"{name} holds more than {MOST_NODES:,} values.")
            if isinstance(event, yaml.ScalarEvent):
                scalars.append(event.value)
    except yaml.YAMLError as error:
        raise UserError(f"{name} is not valid YAML: {' '.join(str(error).split())}.") from error
    return scalars


def parse_json(source: str, where: str) -> Any:
    """The value of a JSON text. UserError for what is no JSON, NaN, a key that stands twice in an object, and
    what `problem` finds."""
    try:
        value = json.loads(source, parse_constant=_refuse, object_pairs_hook=_once)
    except RecursionError as error:
        raise UserError(f"{where} is nested too deeply.") from error
    except ValueError as error:
        raise UserError(f"{where} is not valid JSON: {error}.") from error
    found = problem(value)
    if found:
        raise UserError(f"{where} {found}.")
    return value


def problem(value: Any) -> str:
    """Why a value read from a file is refused; empty: it is not.

    Too deep, a number that no computer can hold, or a text that cannot be written as UTF-8.
    """
    todo, seen = [([value], -1)], set()
    while todo:
        inside, depth = todo.pop()
        for node in inside:
            # Most of a file is numbers: they are passed first.
            if type(node) is float and -math.inf < node < math.inf:
                continue
            if isinstance(node, dict | list):
                if depth >= DEEPEST:
                    return f"is nested more than {DEEPEST} deep"
                # YAML lets one list stand in many places, and in itself.
                if id(node) not in seen:
                    seen.add(id(node))
                    todo.append(
                        ([*node.keys(), *node.values()] if isinstance(node, dict) else node, depth + 1)
                    )
            elif found := _leaf_problem(node):
                return found
    return ""


def _leaf_problem(node: Any) -> str:
    if isinstance(node, str):
        if not node.isascii() and any("\ud800" <= c <= "\udfff" for c in node):
            return f"holds text that is no Unicode: {shown(node)}"
    elif isinstance(node, int) and abs(node) > LARGEST:
        # Python refuses to write out what is longer than some thousand digits.
        digits = len(str(abs(node))) if node.bit_length() < 10_000 else "more than 3,000"
        return f"holds a number of {digits} digits"
    elif isinstance(node, float) and not math.isfinite(node):
        return "holds a number that is not finite"
    return ""


def is_number(value: Any, low: float = -math.inf, high: float = math.inf) -> bool:
    """Whether a value is a finite number from `low` to `high`, and no truth value."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < math.inf and low <= value <= high


def is_count(value: Any, low: int = 1, high: int = LARGEST) -> bool:
    """Whether a value is a whole number from `low` to `high`."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_texts(value: Any) -> bool:
    """Whether a value is a list of texts."""
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def is_span(value: Any) -> bool:
    """Whether a value is [first, last] of whole numbers from 0."""
    return (
        isinstance(value, list) and len(value) == 2 and is_count(value[0], 0) and is_count(value[1], value[0])
    )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Readers differ in which of two values they take."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, num in Counter(key for key, _ in pairs).items() if num > 1)
        raise ValueError(f"key {shown(twice)} stands twice in one object")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON number")
