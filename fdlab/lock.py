"""Locks on folders: one that says who holds it, for runs; one that waits, for what is made once.

They are `flock`s of the operating system: they end with their process, however it ends.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from fdlab.errors import UserError
from fdlab.files import make_folder

NAME = ".lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
"""What file systems answer that know no locks."""
_TRIES, _PAUSE = 5, 0.1
_streams: set[IO[str]] = set()
_mine: set[Path] = set()


@contextmanager
def running(folder: Path, shared: bool = False) -> Iterator[None]:
    """Hold a run directory for this process, or, `shared`, for this and others that share the work.

    Where this process holds it already, that is enough. Raises: UserError that says who holds it.
    """
    path = (Path(folder) / NAME).resolve()
    if path in _mine:
        yield
        return
    make_folder(path.parent)
    with path.open("a+", encoding="utf-8") as stream:
        for left in range(_TRIES - 1, -1, -1):
            # Somebody may just be asking, in `holder`.
            if _take(stream, fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
                break
            if not left:
                raise UserError(
                    f"'{folder}' is in use by {_who(stream)}; wait for it, stop it, or choose another name=."
                )
            time.sleep(_PAUSE)
        stream.truncate(0)
        stream.write(json.dumps(_self()) + "\n")
        stream.flush()
        _streams.add(stream)
        _mine.add(path)
        try:
            yield
        finally:
            _mine.discard(path)
            _streams.discard(stream)


def holder(folder: Path) -> str:
    """Who holds a run directory, in words; "" where nobody does."""
    path = Path(folder) / NAME
    if not path.is_file():
        return ""
    with path.open(encoding="utf-8") as stream:
        return "" if _take(stream, fcntl.LOCK_SH) else _who(stream)


@contextmanager
def exclusive(path: Path, is_brief: bool = False, is_passing: bool = False) -> Iterator[None]:
    """Hold a lock file: of several processes that want the same thing made, one makes it and the others
    wait; `is_brief` where that is too short to be told. `is_passing`: the file goes where the work fails."""
    with _waited_for(path, is_brief, is_passing) as stream:
        _streams.add(stream)
        try:
            yield
        except BaseException:
            if is_passing:
                path.unlink(missing_ok=True)
            raise
        finally:
            _streams.discard(stream)


def _waited_for(path: Path, is_brief: bool, is_passing: bool) -> IO[str]:
    """A lock file, open and held, once nobody else holds it."""
    while True:
        make_folder(path.parent)
        stream = path.open("a", encoding="utf-8")
        try:
            if not _take(stream, fcntl.LOCK_EX):
                if not is_brief:
                    told = f"waiting for another process, which has locked '{path}'"
                    print(told, file=sys.stderr, flush=True)
                fcntl.flock(stream, fcntl.LOCK_EX)
            # Its last holder may have removed it: another process then locks a new one of that name.
            if not is_passing or _is_at(path, stream):
                return stream
        except BaseException:
            stream.close()
            raise
        stream.close()


def _is_at(path: Path, stream: IO[str]) -> bool:
    """Whether an open file is the one that has its name now."""
    try:
        return os.path.samestat(path.stat(), os.fstat(stream.fileno()))
    except FileNotFoundError:
        return False


@contextmanager
def attempt(path: Path) -> Iterator[bool]:
    """Hold a lock file if nobody else does; whether that is so."""
    make_folder(path.parent)
    with path.open("a", encoding="utf-8") as stream:
        is_mine = _take(stream, fcntl.LOCK_EX)
        _streams.add(stream)
        try:
            yield is_mine
        finally:
            _streams.discard(stream)


def _take(stream: IO[str], how: int) -> bool:
    """Lock a file if that can be done at once."""
    try:
        fcntl.flock(stream, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        print(f"'{stream.name}': no locks on this file system; run no two of one name", file=sys.stderr)
    return True


def _self() -> dict[str, str | int]:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return {"pid": os.getpid(), "host": socket.gethostname(), "command": command, "since": since}


def _who(stream: IO[str]) -> str:
    """What the holder wrote of itself; it may be about to write it."""
    stream.seek(0)
    try:
        found = json.loads(stream.read())
        return f"process {found['pid']} on {found['host']} since {found['since']} ({found['command']})"
    except (ValueError, KeyError, TypeError, RecursionError):
        return "another process"


def _let_go() -> None:
    """A forked child, such as a worker that reads pictures, must not hold what its parent holds."""
    for stream in _streams:
        stream.close()
    _streams.clear()
    _mine.clear()


os.register_at_fork(after_in_child=_let_go)
