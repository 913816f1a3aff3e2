"""Arrays in parts, each a folder that is made whole: several processes, on machines that share a disk, each
make what no other is at, and what is there is checked before it is used.

    FOLDER/00000/part.json         the mark that a part is whole: what is known of it, a digest of each array
    FOLDER/00000/NAME.npy          its entries of an array
    FOLDER.state/00000.lock        held by who makes it
    FOLDER.state/00000.json        sizes and times of files whose digest was right: they are not read again
"""

from __future__ import annotations

import bisect
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from fdlab.data.arrays import map_array
from fdlab.data.sample import CorruptFile
from fdlab.data.store import ArrayFolder, is_whole
from fdlab.errors import UserError
from fdlab.files import write_json
from fdlab.foreign import read_json
from fdlab.lock import attempt, exclusive

MARK = "part.json"
BLOCK = 2**22
"""Bytes of an array that are read at once."""


def place(folder: Path, number: int) -> Path:
    """Where a part lies."""
    return folder / f"{number:05d}"


def make_parts(
    folder: Path,
    names: Sequence[Sequence[str]],
    make: Callable[[int], None],
    found: Callable[[int], None] = lambda number: None,
) -> None:
    """Make every part that is not whole (`names`: the arrays of each): first what nobody is at, then what is
    left by those who stopped. `make` fills a part and calls `finish`; `found` is told of those there are."""

    def settle(number: int) -> None:
        if is_sound(folder, number, names[number]):
            found(number)
        else:
            make(number)

    others: list[int] = []
    for number in range(len(names)):
        with attempt(_state(folder, number, ".lock")) as is_mine:
            if is_mine:
                settle(number)
            else:
                others.append(number)
    for number in others:
        with exclusive(_state(folder, number, ".lock")):
            settle(number)


def finish(folder: Path, number: int, out: ArrayFolder, facts: dict[str, Any]) -> None:
    """Mark a part whole, with what is known of it, and give it its name."""
    digests = {name: _digest(array) for name, array in out.arrays.items()}
    out.finish(MARK, facts | {"digests": digests})
    write_json(_state(folder, number, ".json"), _facts(place(folder, number), list(digests)))


def is_sound(folder: Path, number: int, arrays: Sequence[str]) -> bool:
    """Whether a part is whole and its arrays are what was written; says so where only a part of that is
    left. Files are read through once, and again where their size or time has changed."""
    part = place(folder, number)
    if not is_whole(part, MARK, arrays):
        return False
    seen, checked = _facts(part, arrays), _state(folder, number, ".json")
    try:
        if read_json(checked, "list of what is checked") == seen:
            return True
    except UserError:
        # Nobody has checked it, or not here.
        pass
    digests = facts_of(folder, number).get("digests")
    for name in arrays:
        found = _digest(map_array(part / f"{name}.npy"))
        if not isinstance(digests, dict) or digests.get(name) != found:
            print(f"'{part}' is damaged ({name}.npy) and is made anew", file=sys.stderr, flush=True)
            return False
    # A cache that may only be read is checked each time.
    with suppress(OSError):
        write_json(checked, seen)
    return True


def facts_of(folder: Path, number: int) -> dict[str, Any]:
    """What is known of a part that is whole. Raises: CorruptFile."""
    path = place(folder, number) / MARK
    try:
        found = read_json(path, "cache")
    except UserError as error:
        raise CorruptFile(str(error)) from error
    if not isinstance(found, dict):
        raise CorruptFile(f"'{path}' is damaged: it must hold an object.")
    return found


class Parts:
    """An array in parts, as one: entry `i` of all, or some entries stacked; each part is mapped at first
    use."""

    def __init__(self, folder: Path, name: str, bounds: Sequence[int]) -> None:
        """`bounds`: where each part begins, and the end of the last."""
        self.folder, self.name, self.bounds = folder, name, list(bounds)
        self._maps: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self.bounds[-1]

    def __getitem__(self, index: int | Sequence[int]) -> np.ndarray:
        if isinstance(index, int | np.integer):
            if not 0 <= index < len(self):
                raise IndexError(index)
            number = bisect.bisect_right(self.bounds, index) - 1
            entry: np.ndarray = self.part(number)[index - self.bounds[number]]
            return entry
        if not len(index):
            first = self.part(0)
            return np.empty((0, *first.shape[1:]), first.dtype)
        return np.stack([self[int(each)] for each in index])

    def part(self, number: int) -> np.ndarray:
        """One part's own array. Raises: CorruptFile."""
        if number not in self._maps:
            self._maps[number] = map_array(place(self.folder, number) / f"{self.name}.npy")
        return self._maps[number]

    def parts(self) -> Iterator[np.ndarray]:
        """The arrays of all parts. Raises: CorruptFile."""
        return (self.part(number) for number in range(len(self.bounds) - 1))


def _state(folder: Path, number: int, suffix: str) -> Path:
    return folder.with_name(f"{folder.name}.state") / f"{number:05d}{suffix}"


def _facts(part: Path, arrays: Sequence[str]) -> dict[str, list[int]]:
    """Size and time of a part's files."""
    found = {}
    for name in (MARK, *(f"{name}.npy" for name in sorted(arrays))):
        stat = (part / name).stat()
        found[name] = [stat.st_size, stat.st_mtime_ns]
    return found


def _digest(array: np.ndarray) -> str:
    digest = hashlib.blake2b(json.dumps([str(array.dtype), array.shape]).encode(), digest_size=16)
    flat = array.reshape(-1).view(np.uint8)
    for start in range(0, len(flat), BLOCK):
        digest.update(flat[start : start + BLOCK].tobytes())
    return digest.hexdigest()
