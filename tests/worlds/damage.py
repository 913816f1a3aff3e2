"""Files damaged in every way that a disk, a download, an editor or an enemy has."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 1.5, -0.0, 1e308, -1e308, 1e-320, 2**63, 2**64, 2**64 + 1, 10**30,
    10**400, "", "x", " ", "0", "nan",
    "../../x", "/etc/passwd", "a" * 5000, "\n", "\x00", "\x1b[31m", "\u202e",
    "\ud800", "[/red]", "{noun.__class__}", "{0}", "=1+1", "pairs", [], [[]], ["x"], [None], [1, 2, 3, 4], {},
    {"x": 1}, {"": {}}, {"name": []}, [{"id": "x"}],
)  # fmt: skip
RAW = (
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 5000,
    b"[" * 100_000, b'{"a":' * 60 + b"1" + b"}" * 60,
    b"\xff\xfe", b"\x00", b'"\\ud800"', b"{", b"}", b"]", b",", b"&a [*a]", b"!!python/object:os.system x",
    b"!!timestamp x", b"!!int x", b"!!bool x", b"2026-99-99", b"\t", b"\r\n", b"? [a]\n: b",
)  # fmt: skip


def places(node: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key and index of a value, at any depth."""
    for key, value in (
        node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    ):
        yield (*above, key)
        yield from places(value, (*above, key))


def changed(value: Any, rng: np.random.Generator) -> Any:
    """A value in which one to three entries are gone, another's, or something odd."""
    value = copy.deepcopy(value)
    for _ in range(rng.integers(1, 4)):
        found = list(places(value))
        if not found:
            return ODD[rng.integers(len(ODD))]
        *above, last = found[rng.integers(len(found))]
        node = value
        for key in above:
            node = node[key]
        kind = rng.integers(4)
        if kind == 0:
            del node[last]
        elif kind == 1 and isinstance(node, dict):
            node[str(ODD[rng.integers(len(ODD))])[:6000]] = node.pop(last)
        elif kind == 2:
            *from_, key = found[rng.integers(len(found))]
            other = value
            try:
                for step in (*from_, key):
                    other = other[step]
            except (KeyError, IndexError, TypeError):
                other = None
            node[last] = copy.deepcopy(other)
        else:
            node[last] = ODD[rng.integers(len(ODD))]
    return value


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes cut, flipped, doubled, or with something put between."""
    kind = rng.integers(6)
    at = int(rng.integers(len(data) + 1))
    if kind == 0:
        return data[:at]
    if kind == 1:
        flipped = bytearray(data)
        for _ in range(rng.integers(1, 9)):
            flipped[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        return bytes(flipped)
    if kind == 2:
        return data[:at] + RAW[rng.integers(len(RAW))] + data[at:]
    if kind == 3:
        return data[:at] + RAW[rng.integers(len(RAW))] + data[min(len(data), at + int(rng.integers(1, 40))) :]
    if kind == 4:
        return data[:at] + data[min(len(data), at + int(rng.integers(1, 200))) :]
    return data[:at] + data


def files(value: Any, seed: int, num: int, dumps: Any = json.dumps) -> Iterator[bytes]:
    """`num` damaged files of a value: half by what they hold, half by their bytes."""
    rng = np.random.default_rng(seed)
    data = dumps(value).encode()
    for k in range(num):
        yield dumps(changed(value, rng)).encode() if k % 2 else damaged(data, rng)
