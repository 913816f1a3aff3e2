"""Arrays written chunk by chunk into a folder that gets its name when it is complete; a kill costs one
chunk."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fdlab.data.arrays import map_array
from fdlab.data.sample import CorruptFile
from fdlab.errors import UserError
from fdlab.files import write_json
from fdlab.foreign import read_json
from fdlab.lock import exclusive

Layout = Mapping[str, tuple[tuple[int, ...], type]]
"""Name of an array to its shape and type."""


def make_once(folder: Path, is_complete: Callable[[], bool], make: Callable[[], None]) -> None:
    """Make a folder unless it is complete; of several processes that want it one makes it, the others wait.

    What is complete is only read: that needs no lock, and no right to write.
    """
    if is_complete():
        return
    with exclusive(folder.with_name(folder.name + ".lock")):
        if not is_complete():
            make()


def is_whole(folder: Path, mark: str, arrays: Iterable[str]) -> bool:
    """Whether a folder has its mark and every array in full; says so where only a part of that is left."""
    if not (folder / mark).is_file():
        return False
    broken = [mark] if _read_object(folder / mark) is None else []
    broken += [f"{name}.npy" for name in arrays if _open(folder / f"{name}.npy", "r") is None]
    if broken:
        print(f"'{folder}' is damaged ({', '.join(broken)}) and is made anew", file=sys.stderr, flush=True)
    return not broken


def _read_object(path: Path) -> dict[str, Any] | None:
    """A JSON object; None where there is no such."""
    try:
        found = read_json(path, "cache")
    except UserError:
        return None
    return found if isinstance(found, dict) else None


def _open(path: Path, mode: Literal["r", "r+"]) -> np.memmap | None:
    """An array that a file holds in full, mapped; None where there is no such."""
    try:
        return map_array(path, mode=mode)
    except CorruptFile:
        return None


class ArrayFolder:
    """Memory-mapped arrays of a folder in the making. `state` is what the last finished chunk left behind."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        self.folder = Path(folder)
        self.partial = self.folder.with_name(self.folder.name + ".partial")
        state, arrays = _read_object(self._progress), self._mapped(layout)
        if state is None or arrays is None:
            shutil.rmtree(self.partial, ignore_errors=True)
            self.partial.mkdir(parents=True)
            for name, (shape, dtype) in layout.items():
                _allocate(self.partial / f"{name}.npy", shape, dtype)
            write_json(self._progress, {})
            state, arrays = {}, self._mapped(layout)
            assert arrays is not None
        self.arrays, self.state = arrays, state

    def _mapped(self, layout: Layout) -> dict[str, np.memmap] | None:
        """The arrays of an unfinished folder; None where one is missing, cut short or of another layout."""
        found = {name: _open(self.partial / f"{name}.npy", "r+") for name in layout}
        arrays = {
            name: array
            for name, array in found.items()
            if array is not None
            and (array.shape, array.dtype) == (layout[name][0], np.dtype(layout[name][1]))
        }
        return arrays if len(arrays) == len(layout) else None

    @property
    def _progress(self) -> Path:
        return self.partial / "progress.json"

    def commit(self, **state: Any) -> None:
        """A chunk is in the arrays: make that last."""
        for array in self.arrays.values():
            array.flush()
        self.state = state
        write_json(self._progress, state)

    def finish(self, name: str, value: Any) -> None:
        """Write the JSON that marks the folder complete and give the folder its name."""
        write_json(self.partial / name, value)
        self._progress.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.partial.replace(self.folder)


def _allocate(path: Path, shape: tuple[int, ...], dtype: type) -> None:
    """Make an array file with its space reserved: a full disk is an error here, not a bus error while
    writing."""
    with path.open("wb") as stream:
        header = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
            "fortran_order": False,
            "shape": shape,
        }
        np.lib.format.write_array_header_1_0(stream, header)
        size = stream.tell() + int(np.prod(shape)) * np.dtype(dtype).itemsize
        stream.flush()
        try:
            os.posix_fallocate(stream.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UserError(
                f"no space left to write '{path}' ({size / 2**20:.0f} MiB); free some, or choose "
                "another paths.cache."
            ) from None
