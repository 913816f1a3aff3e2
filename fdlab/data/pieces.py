"""Enough of a file to tell it from another: all of a short one; of a long one its length, and pieces spread
over it."""

from __future__ import annotations

import os
from pathlib import Path

SHORT = 2**17
"""Bytes of a file that is read whole; systems read as many at once anyway."""
PIECE = 2**13
NUM = 5
"""Pieces, the first at the beginning and the last at the end. Another coded picture differs in length, or in
all that follows the first change; another label map, whose length is the same, about the middle."""


def glance(path: Path, start: int = 0, size: int | None = None) -> bytes:
    """Look at `size` bytes of a file from `start` on (None: at all of it). Raises: OSError."""
    with path.open("rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size - start if size is None else size
        if size <= SHORT:
            return os.pread(stream.fileno(), size, start)
        places = [start + (size - PIECE) * n // (NUM - 1) for n in range(NUM)]
        return f"{size}\n".encode() + b"".join(os.pread(stream.fileno(), PIECE, place) for place in places)
