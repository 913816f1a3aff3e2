"""Arrays written chunk by chunk into a folder that gets its name when it is complete; a kill costs one
chunk."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fdlab.errors import UserError
from fdlab.files import write_json

Layout = Mapping[str, tuple[tuple[int, ...], type]]
"""Name of an array to its shape and type."""


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock file: of several processes that want the same thing made, one makes it and the others
    wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


class ArrayFolder:
    """Memory-mapped arrays of a folder in the making. `state` is what the last finished chunk left behind."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        self.folder = Path(folder)
        self.partial = self.folder.with_name(self.folder.name + ".partial")
        if not self._progress.exists():
            shutil.rmtree(self.partial, ignore_errors=True)
            self.partial.mkdir(parents=True)
            for name, (shape, dtype) in layout.items():
                _allocate(self.partial / f"{name}.npy", shape, dtype)
            write_json(self._progress, {})
        self.arrays: dict[str, np.memmap] = {
            name: np.load(self.partial / f"{name}.npy", mmap_mode="r+", allow_pickle=False) for name in layout
        }
        self.state: dict[str, Any] = json.loads(self._progress.read_text(encoding="utf-8"))

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
