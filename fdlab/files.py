"""Files written whole: under a temporary name, then renamed; a kill leaves the old file or the new."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fdlab.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def whole(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well, else remove it."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except Exception as error:
        if _no_space(error):
            message = f"no space left to write '{path}'; free some, or choose another folder."
            raise UserError(message) from error
        raise
    finally:
        # A folder that cannot be written to may not even be asked.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _no_space(error: BaseException | None) -> bool:
    """Whether a full disk stands behind an error; writers in C++ and Rust turn the OSError into others."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if any(os.strerror(number) in str(error) for number in _FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with whole(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON to `path`, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def sha256(path: Path | str) -> str:
    """Hex digest of a file; of a folder, the digest over its files' relative names and digests in order."""
    path = Path(path)
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file())
        parts = (f"{p.relative_to(path).as_posix()} {sha256(p)}\n" for p in inside)
        return hashlib.sha256("".join(parts).encode()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
