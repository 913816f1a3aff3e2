"""Array files (.npy) of others, and of caches: mapped where they are whole, refused in one line where not."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from fdlab.data.sample import CorruptFile
from fdlab.foreign import said


def map_array(path: Path, kind: str = "array", mode: Literal["r", "r+"] = "r") -> np.memmap:
    """Map an array that a file holds in full: nothing is read, whatever its head promises. CorruptFile where
    there is none; `kind` is what messages call it."""
    if not path.is_file():
        raise CorruptFile(f"{kind} '{path}' is missing.")
    try:
        # Mapped for writing first, a file cut short would be filled with zeros.
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if mode == "r+" and isinstance(found, np.memmap):
            found = np.load(path, mmap_mode=mode, allow_pickle=False)
    except Exception as error:
        # The head is Python text: a damaged one raises whatever a parser, or a type's constructor, can.
        raise CorruptFile(f"{kind} '{path}' is corrupt: {said(error)}.") from error
    if not isinstance(found, np.memmap):
        if isinstance(found, np.lib.npyio.NpzFile):
            found.close()
        raise CorruptFile(f"{kind} '{path}' is corrupt: it is no single array of numbers.")
    return found
