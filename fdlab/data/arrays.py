"""Array files (.npy) of others, and of caches: mapped where they are whole, refused in one line where not.

Heads are read here, after the format's description (numpy.lib.format), and not by NumPy: its readers parse
them as Python, which Python 3.11 does not do safely while another thread parses too (CPython issue 106905):
whole files were called corrupt now and then.
"""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np

from fdlab.data.sample import CorruptFile
from fdlab.foreign import said

_MAGIC = b"\x93NUMPY"
_LENGTH_BYTES = {(1, 0): 2, (2, 0): 4, (3, 0): 4}
"""Version of the format -> bytes that tell the length of the head."""
_LONGEST = 10_000
"""Bytes of a head: NumPy reads no longer one either."""
_ENTRY = re.compile(r" *'(\w+)' *: *('[^']*'|\w+|\([^()]*\)|\[.*\]) *(?:,|$)")
_SHAPE = re.compile(r"\( *(?:[0-9]{1,18}L? *, *)*(?:[0-9]{1,18}L?)? *\)")
"""Python 2 wrote an L behind long numbers."""
_NUMBERS = re.compile(r"'([<>|=]?[biufc][0-9]{1,2})'")


class _Head(NamedTuple):
    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype
    start: int
    """Byte at which the values begin."""

    @property
    def order(self) -> Literal["F", "C"]:
        return "F" if self.is_fortran else "C"


def map_array(path: Path, kind: str = "array", mode: Literal["r", "r+"] = "r") -> np.memmap:
    """Map an array of numbers that a file holds in full: nothing is read, whatever its head promises.

    A single number is mapped as a list of one. CorruptFile where there is none; `kind` is what messages call
    it.
    """
    if not path.is_file():
        raise CorruptFile(f"{kind} '{path}' is missing.")
    try:
        with path.open("rb") as file:
            head = _head(file, path.stat().st_size)
        return np.memmap(path, head.dtype, mode, head.start, head.shape, head.order)
    except (OSError, ValueError) as error:
        raise CorruptFile(f"{kind} '{path}' is corrupt: {said(error)}.") from error


def array_of(data: bytes, name: str) -> np.ndarray:
    """An array of numbers in the bytes of its file; nothing is allocated beyond them.

    CorruptFile where there is none; `name` is what messages call it.
    """
    try:
        head = _head(io.BytesIO(data), len(data))
        count = math.prod(head.shape)
        return np.frombuffer(data, head.dtype, count, head.start).reshape(head.shape, order=head.order)
    except ValueError as error:
        raise CorruptFile(f"{name} is corrupt: {said(error)}.") from error


def _head(file: BinaryIO, size: int) -> _Head:
    """What the head of a file of `size` bytes promises and the file holds. ValueError where it does not."""
    magic = file.read(8)
    if magic[:6] != _MAGIC or len(magic) < 8:
        raise ValueError("it does not begin as an array's file does")
    version = (magic[6], magic[7])
    if version not in _LENGTH_BYTES:
        raise ValueError(f"version {version} of its format is not read")
    length = int.from_bytes(file.read(_LENGTH_BYTES[version]), "little")
    if length > _LONGEST:
        raise ValueError(f"its head would have {length:,} bytes")
    entries = _entries(file.read(length).decode("utf-8" if version == (3, 0) else "latin1").strip(" \n"))
    head = _Head(
        _shape(entries["shape"]), _flag(entries["fortran_order"]), _dtype(entries["descr"]), file.tell()
    )
    if head.start + math.prod(head.shape) * head.dtype.itemsize > size:
        raise ValueError(f"it is cut short, or no {head.dtype} {head.shape}")
    return head


def _entries(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    inner, at = text[1:-1].rstrip(" "), 0
    while text[:1] + text[-1:] == "{}" and (match := _ENTRY.match(inner, at)):
        found[match[1]], at = match[2], match.end()
    if at < len(inner) or set(found) != {"descr", "fortran_order", "shape"}:
        raise ValueError("its head is damaged")
    return found


def _shape(text: str) -> tuple[int, ...]:
    if not _SHAPE.fullmatch(text):
        raise ValueError(f"it cannot be {text}")
    return tuple(int(number) for number in re.findall(r"\d+", text))


def _flag(text: str) -> bool:
    if text not in ("True", "False"):
        raise ValueError(f"fortran_order cannot be {text}")
    return text == "True"


def _dtype(text: str) -> np.dtype:
    try:
        if match := _NUMBERS.fullmatch(text):
            return np.dtype(match[1])
    except TypeError:
        pass
    raise ValueError(f"{text} are no numbers")
