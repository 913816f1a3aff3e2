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
from fdlab.engine.ranks import Ranks
from fdlab.errors import EndedElsewhere, UserError

POLL, GRACE = 0.5, 5.0
"""Seconds between two looks for another's note, and those that a process has after it to end by itself."""
_FIRST = "FDLAB_FIRST_PROCESS"
"""Environment variable: the number of the process that starts the others."""
_OBSERVER = "child-process-observer"
"""Lightning's thread in the first process, which kills it where one that it started ends badly."""


@contextmanager
def ending(folder: Path, let_go: Callable[[int], None] | None = None) -> Iterator[None]:
    """Leave a note in `folder` for the processes beside this one when it fails: what then fails in them, as
    connections break, is no news, and one that waits for this one in vain ends by `let_go(status)` and at
    once; so does one whose first process is gone. Raises: EndedElsewhere where another's note is there."""
    note = folder / ENDED
    if is_main_process() or _is_started_elsewhere():
        note.unlink(missing_ok=True)
    if is_main_process():
        os.environ[_FIRST] = str(os.getpid())
    watch = _Watch(note, let_go)
    watch.start()
    try:
        yield
    except KeyboardInterrupt:
        # A launcher ends those beside one that failed.
        if (status := watch.status or _read(note)) is not None:
            raise EndedElsewhere(status) from None
        raise
    except Exception as error:
        watch.over.set()
        if watch.status is not None:
            raise EndedElsewhere(watch.status) from None
        if _is_alone() or not folder.is_dir():
            raise
        _keep_from_killing()
        try:
            with note.open("x") as stream:
                stream.write(str(2 if isinstance(error, UserError) else 1))
        except FileExistsError:
            # Empty while it is being written.
            raise EndedElsewhere(_read(note) or 1) from None
        # The others have seen the note before the folder may go.
        time.sleep(2 * POLL)
        raise
    finally:
        watch.over.set()
        if is_main_process():
            os.environ.pop(_FIRST, None)


class _Watch(threading.Thread):
    """Looks for another's note, until `over`. A process may wait for others where nothing reaches it: in the
    meeting of all, or in what the devices do."""

    def __init__(self, note: Path, let_go: Callable[[int], None] | None) -> None:
        super().__init__(name="watch", daemon=True)
        self.note, self.let_go, self.over = note, let_go, threading.Event()
        self.status: int | None = None

    def run(self) -> None:
        """The thread."""
        while self.status is None:
            if self.over.wait(POLL):
                return
            self.status = _read(self.note) or (1 if _is_orphan() else None)
        _keep_from_killing()
        if self.over.wait(GRACE):
            return
        try:
            if self.let_go is not None:
                self.let_go(self.status)
            sys.stdout.flush()
        finally:
            os._exit(self.status)


def _read(note: Path) -> int | None:
    """The status that a note tells; None where there is none, or not yet."""
    try:
        return int(note.read_text() or 0) or None
    except OSError:
        return None


def _is_alone() -> bool:
    started = int(os.environ.get("WORLD_SIZE", "1")) > 1 or _is_started_elsewhere()
    return is_main_process() and Ranks.here().world == 1 and not started


def _is_started_elsewhere() -> bool:
    """Whether torchrun or SLURM started this process beside others: then none of them is the first's child,
    and a note may be one of an earlier go."""
    return "RANK" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) > 1


def _is_orphan() -> bool:
    """Whether the process that started this one to train with it is gone, in whatever way."""
    return not is_main_process() and os.environ.get(_FIRST, str(os.getppid())) != str(os.getppid())


def _keep_from_killing() -> None:
    """Let this process end with a status of its own, though one that it started ends badly."""
    for thread in threading.enumerate():
        if thread.name == _OBSERVER:
            getattr(thread, "_child_processes", []).clear()
