"""Processes that train together end together, and the first that fails says why."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fdlab.config.directory import ENDED, is_main_process
from fdlab.config.launch import launched, local_rank
from fdlab.engine.children import GO_ON, INTERRUPTED, Children
from fdlab.engine.ranks import Ranks
from fdlab.errors import EndedElsewhere, Failure, UserError

POLL, GRACE = 0.5, 5.0
"""Seconds between two looks for another's note, and those that a process has after it to end by itself."""
_BORN = time.time()
_FIRST = "FDLAB_FIRST_PROCESS"
"""Environment variable: the number of the process that starts the others."""


@contextmanager
def ending(folder: Path, let_go: Callable[[int], None] | None = None) -> Iterator[None]:
    """Leave a note in `folder` for the processes beside this one when it fails: what then fails in them, as
    connections break, is no news, and one that waits for this one in vain ends by `let_go(status)` and at
    once; so does one whose first process is gone, and the first where one that it started is. Raises:
    EndedElsewhere where another's note is there, Failure where another is gone without one."""
    note = folder / ENDED
    if is_main_process():
        note.unlink(missing_ok=True)
    if not _is_child():
        os.environ[_FIRST] = str(os.getpid())
    watch = _Watch(note, let_go)
    watch.start()
    try:
        yield
    except KeyboardInterrupt:
        watch.stop()
        if watch.sees():
            # A launcher ends those beside one that failed.
            raise watch.end() from None
        if _is_child():
            # The first says so.
            raise EndedElsewhere(INTERRUPTED) from None
        if not _is_alone() and is_main_process():
            watch.tell(INTERRUPTED)
        raise
    except Exception as error:
        watch.stop()
        if _is_alone():
            raise
        # What breaks with another process may be seen before its end is.
        if watch.sees(0 if isinstance(error, UserError | Failure) else POLL):
            raise watch.end() from None
        if not folder.is_dir():
            raise
        if not watch.tell(2 if isinstance(error, UserError) else 1):
            # Empty while it is being written.
            watch.status = _read(note) or 1
            raise watch.end() from None
        raise
    finally:
        watch.stop()
        if not _is_child():
            os.environ.pop(_FIRST, None)


class _Watch(threading.Thread):
    """Looks for another's end, until stopped. A process may wait for others where nothing reaches it: in the
    meeting of all, or in what the devices do."""

    def __init__(self, note: Path, let_go: Callable[[int], None] | None) -> None:
        super().__init__(name="watch", daemon=True)
        self.note, self.let_go, self.over, self.children = note, let_go, threading.Event(), Children()
        self.status: int | None = None
        self.why: str | None = None

    def run(self) -> None:
        """The thread."""
        while not self._look():
            if self.over.wait(POLL):
                return
        if self.over.wait(GRACE):
            return
        assert self.status is not None
        try:
            error = self.end()
            if not isinstance(error, EndedElsewhere):
                print(f"error: {error}", file=sys.stderr, flush=True)
            if self.let_go is not None:
                self.let_go(self.status)
            sys.stdout.flush()
        finally:
            os._exit(self.status)

    def stop(self) -> None:
        """Look no longer; where it is about to end this process, that comes first."""
        self.over.set()
        self.join()

    def sees(self, seconds: float = 0.0) -> bool:
        """Whether another has ended, or does so within some seconds."""
        until = time.monotonic() + seconds
        while self.status is None and not self._look() and time.monotonic() < until:
            time.sleep(POLL / 10)
        return self.status is not None

    def end(self) -> Failure:
        """What this process ends by, as another did: with a reason where nobody else gives it."""
        assert self.status is not None
        if self.tell(self.status) and self.why:
            return Failure(self.why)
        self._clear(GRACE)
        return EndedElsewhere(self.status)

    def tell(self, status: int) -> bool:
        """Leave a note, and let the others see it before the folder may go; whether this is the first to."""
        try:
            with self.note.open("x") as stream:
                stream.write(str(status))
        except FileExistsError:
            return False
        except OSError:
            # Nobody hears of it, as the folder is gone or the disk full; this one says so all the same.
            return True
        if not self._clear(2 * POLL):
            time.sleep(2 * POLL)
        return True

    def _clear(self, seconds: float) -> bool:
        """End those that this process started, after so long, and take the note away; whether there were
        any."""
        if (cleared := self.children.end(seconds)) and is_main_process():
            self.note.unlink(missing_ok=True)
        return cleared

    def _look(self) -> bool:
        if self.status is None:
            gone = self.children.failed() or (
                (1, f"the first process is gone; {GO_ON}") if _is_orphan() else None
            )
            # What is gone may have left a note.
            if (told := _read(self.note)) is not None:
                self.status = told
            elif gone is not None:
                self.status, self.why = gone
        return self.status is not None


def _read(note: Path) -> int | None:
    """The status that a note tells; None where there is none, or not yet, or it is of an earlier go."""
    try:
        if launched() is not None and note.stat().st_mtime < _BORN:
            return None
        return int(note.read_text() or 0) or None
    except OSError:
        return None


def _is_alone() -> bool:
    started = int(os.environ.get("WORLD_SIZE", "1")) > 1 or launched() is not None
    return is_main_process() and Ranks.here().world == 1 and not started


def _is_child() -> bool:
    """Whether the first process of this machine started this one."""
    return local_rank() > 0 and launched() is None


def _is_orphan() -> bool:
    """Whether the process that started this one to train with it is gone, in whatever way."""
    return _is_child() and os.environ.get(_FIRST, str(os.getppid())) != str(os.getppid())
