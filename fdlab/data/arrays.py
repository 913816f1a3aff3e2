"""Array files (.npy) of others, and of caches: mapped where they are whole, refused in one line where not."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import numpy as np

from fdlab.data.sample import CorruptFile
from fdlab.foreign import said

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def map_array(path: Path, kind: str = "array", mode: Literal["r", "r+"] = "r") -> np.memmap:
    """Map an array that a file holds in full: nothing is read, whatever its head promises. CorruptFile where
    there is none; `kind` is what messages call it."""
    if not path.is_file():
        raise CorruptFile(f"{kind} '{path}' is missing.")
    try:
        # Mapped for writing first, a file cut short would be filled with zeros. Not np.load, which takes what
        # starts as an archive does for one, and leaves the file open where it is none.
        found = np.lib.format.open_memmap(path, mode="r")
        return np.lib.format.open_memmap(path, mode=mode) if mode == "r+" else found
    except Exception as error:
        # The head is Python text: a damaged one raises whatever a parser, or a type's constructor, can.
        raise CorruptFile(f"{kind} '{path}' is corrupt: {said(error)}.") from error


def array_of(data: bytes, name: str) -> np.ndarray:
    """An array in the bytes of its file; nothing is allocated beyond them. CorruptFile where there is none;
    `name` is what messages call it."""
    try:
        stream = io.BytesIO(data)
        version = np.lib.format.read_magic(stream)
        if version not in _HEADERS:
            raise ValueError(f"version {version} of its format is not read")
        shape, is_fortran, dtype = _HEADERS[version](stream)
        count = int(np.prod(shape, dtype=object))
        if min(shape, default=0) < 0:
            raise ValueError(f"it cannot be {shape}")
        if count and dtype.itemsize * count > len(data):
            raise ValueError(f"it is cut short, or no {dtype} {shape}")
        flat = np.frombuffer(data, dtype, count, stream.tell()) if count else np.zeros(0, dtype)
        return flat.reshape(shape[::-1]).T if is_fortran else flat.reshape(shape)
    except Exception as error:
        # As in `map_array`.
        raise CorruptFile(f"{name} is corrupt: {said(error)}.") from error
