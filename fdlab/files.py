"""Files and folders written whole: under a temporary name, flushed to the disk, then renamed.

A kill or a power cut leaves the old one or the new. What a writer that died left behind, the next writer to
the same folder removes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fdlab.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_HOST = re.sub(r"[^A-Za-z0-9]+", "-", socket.gethostname())[:32]
_TEMPORARY = re.compile(r"\.(.+)\.([A-Za-z0-9-]*)-(\d+)\.(tmp|old)")
"""Name, host and process of what is being written, and of a folder that makes room for the new one."""
LONGEST_PATH = 400
"""Characters that a message shows."""
_ABANDONED = 2 * 24 * 3600.0
"""Seconds after which another host's temporary file counts as left behind: its processes cannot be asked."""
_open: set[str] = set()
"""What this process is writing."""
_cleared: set[str] = set()


@contextmanager
def whole(path: Path | str, flush: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well, else remove it.

    `flush=False` is for one of thousands of files, whose folder counts for nothing before `flush_all` and a
    mark that it is complete.
    """
    path = Path(path)
    temporary = _beside(path, "tmp")
    try:
        with _in_a_line(path):
            make_folder(path.parent)
            clear(path.parent)
            _open.add(str(temporary.resolve()))
            yield temporary
            if flush:
                _flush(temporary)
            temporary.replace(path)
            if flush:
                _flush(path.parent)
    finally:
        # A folder that cannot be written to may not even be asked.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        _open.discard(str(temporary.resolve()))


@contextmanager
def whole_folder(folder: Path | str) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`; it takes its place when the block ends well, and goes
    otherwise."""
    folder = Path(folder)
    temporary, old = _beside(folder, "tmp"), _beside(folder, "old")
    make_folder(folder.parent)
    clear(folder.parent)
    ours = {str(temporary.resolve()), str(old.resolve())}
    _open.update(ours)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        with _in_a_line(folder):
            yield temporary
            for inside in [*temporary.rglob("*"), temporary]:
                if not inside.is_symlink():
                    _flush(inside)
            if folder.exists():
                folder.replace(old)
            temporary.replace(folder)
            _flush(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if old.exists():
            # If the second rename failed, the old folder is the only one left: put it back.
            shutil.rmtree(old, ignore_errors=True) if folder.exists() else old.replace(folder)
        _open.difference_update(ours)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are not there. Raises: UserError where the system says
    that there is no such place, as below /proc."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:
        raise UserError(f"folder '{folder}' cannot be made; choose another.") from error


def is_file(path: Path) -> bool:
    """Whether there is such a file; no system has one whose name is longer than it takes."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Whether there is such a folder."""
    try:
        return path.is_dir()
    except OSError:
        return False


def shortened(path: Path | str) -> str:
    """A path as messages name it, in quotes; of a very long one, both ends."""
    text = str(path)
    return f"'{text}'" if len(text) <= LONGEST_PATH else f"'{text[:60]}...{text[-60:]}'"


def clear(folder: Path) -> None:
    """Remove what dead writers left in a folder, once a process; a folder that was only moved out of the way
    comes back where nothing took its place."""
    if (place := str(folder.resolve())) in _cleared:
        return
    _cleared.add(place)
    for path in Path(place).glob(".*"):
        found = _TEMPORARY.fullmatch(path.name)
        if found is None or str(path) in _open or not _is_abandoned(path, found[2], int(found[3])):
            continue
        target = path.with_name(found[1])
        # Another process may clear here too, or the file may be another user's.
        with suppress(OSError):
            if found[4] == "old" and not target.exists():
                path.replace(target)
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def flush_all() -> None:
    """Bring all that was written to the disk, before the mark that a folder of many files is complete."""
    os.sync()


def _beside(path: Path, end: str) -> Path:
    return path.with_name(f".{path.name}.{_HOST}-{os.getpid()}.{end}")


def _is_abandoned(path: Path, host: str, pid: int) -> bool:
    if host != _HOST:
        with suppress(FileNotFoundError):
            return time.time() - path.stat().st_mtime > _ABANDONED
        return False
    if pid == os.getpid():
        # An earlier process had the same number: what is ours is in `_open`.
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _flush(path: Path) -> None:
    """Bring a file's content, or a folder's names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems do not flush folders.
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP, errno.EBADF)):
            raise
    finally:
        os.close(handle)


@contextmanager
def _in_a_line(path: Path) -> Iterator[None]:
    """Say in a line that a disk is full, a file too large for it, or the place refused by what has no number
    of its own. Raises: UserError."""
    try:
        yield
    except UserError:
        # It says what is wrong, which may be of what is read.
        raise
    except Exception as error:
        if _stands_behind(error, _FULL):
            message = f"no space left to write '{path}'; free some, or choose another folder."
        elif _stands_behind(error, (errno.EFBIG,)):
            message = f"'{path}' is larger than a file may be here; choose another folder."
        elif not isinstance(error, OSError) and any(os.strerror(each) in str(error) for each in _REFUSED):
            message = f"'{path}' cannot be written, says the system; choose another folder."
        else:
            raise
        raise UserError(message) from error


def _stands_behind(error: BaseException | None, numbers: tuple[int, ...]) -> bool:
    """Whether one of these does; writers in C++ and Rust turn the OSError into others."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in numbers:
            return True
        if any(os.strerror(number) in str(error) for number in numbers):
            return True
        error = error.__cause__ or error.__context__
    return False


def write_bytes(path: Path | str, data: bytes, flush: bool = True) -> None:
    """Write `data` to `path`, whole or not at all; `flush` as of `whole`."""
    with whole(path, flush) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path | str, text: str, flush: bool = True) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all; `flush` as of `whole`."""
    write_bytes(path, text.encode(), flush)


def write_json(path: Path | str, value: Any, flush: bool = True) -> None:
    """Write `value` as indented JSON to `path`, whole or not at all; `flush` as of `whole`."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n", flush)


def sha256(path: Path | str) -> str:
    """Hex digest of a file; of a folder, the digest over its files' relative names and digests in order."""
    path = Path(path)
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file())
        parts = (f"{p.relative_to(path).as_posix()} {sha256(p)}\n" for p in inside)
        return hashlib.sha256("".join(parts).encode()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Hex digest of settings, whatever their order: tells what was made by the same from what is stale."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()
