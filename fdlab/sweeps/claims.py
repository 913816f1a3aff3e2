"""Who works on which trial of a search: by locks of one machine, or by heartbeats in a database of many."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from fdlab import lock
from fdlab.errors import UserError

BEAT = "beat"
"""A running trial's attribute: which worker, and how often it has said so."""
EVERY, PATIENCE = 10.0, 60.0
"""Seconds between two heartbeats, and without one, watched by this process, until a worker is dead."""
LOCK_PATIENCE = 30.0
"""Seconds after which a lock in the database is left by a dead worker: it is held for less than one."""


class Claims(Protocol):
    """One worker at a time decides, and one at a time works on a trial."""

    def alone(self) -> AbstractContextManager[None]:
        """Decide while nobody else does."""

    def claim(self, trial: Any) -> ExitStack | None:
        """Begin to work on a trial, until the stack is closed; None where somebody does, or may."""

    def is_claimed(self, trial: Any) -> bool:
        """Whether a worker, as far as is known, works on a trial."""


class Locks:
    """Locks of the operating system: they end with their process, however it ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Decide while nobody else does."""
        with lock.exclusive(self.folder / "study.lock", is_brief=True):
            yield

    def claim(self, trial: Any) -> ExitStack | None:
        """Hold a trial's lock; None where another process does."""
        held = ExitStack()
        with suppress(UserError):
            held.enter_context(lock.running(self._path(trial)))
            return held
        return None

    def is_claimed(self, trial: Any) -> bool:
        """Whether a process holds a trial's lock."""
        return bool(lock.holder(self._path(trial)))

    def _path(self, trial: Any) -> Path:
        return self.folder / "claims" / str(trial.number)


class Heartbeats:
    """Heartbeats and a lock kept where the trials are: for workers of several machines, whatever their
    clocks say.

    Each process judges by its own watch: a worker is dead whose heartbeat does not change for `PATIENCE`.
    """

    def __init__(self, study: Any) -> None:
        self.study = study
        self.worker = uuid.uuid4().hex
        self._seen: dict[int, tuple[Any, float]] = {}
        self._here = threading.Lock()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Decide while nobody else does: a study of this name can be made by one worker only."""
        import optuna

        storage, name = self.study._storage, f"{self.study.study_name} (lock)"
        with self._here:
            mine, other, since = None, None, time.monotonic()
            while mine is None:
                try:
                    mine = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], name)
                except optuna.exceptions.DuplicatedStudyError:
                    found = _id_of(storage, name)
                    if found != other:
                        other, since = found, time.monotonic()
                    elif found is not None and time.monotonic() - since > LOCK_PATIENCE:
                        _delete(storage, found)
                    time.sleep(0.05)
            try:
                yield
            finally:
                _delete(storage, mine)

    def claim(self, trial: Any) -> ExitStack | None:
        """Begin a trial's heartbeat; None where another's may still go on."""
        if self.is_claimed(trial):
            return None
        over, held = threading.Event(), ExitStack()
        trial.set_user_attr(BEAT, [self.worker, 0])

        def beat() -> None:
            count = 0
            while not over.wait(EVERY):
                count += 1
                trial.set_user_attr(BEAT, [self.worker, count])

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()

        def end() -> None:
            over.set()
            thread.join()

        held.callback(end)
        return held

    def is_claimed(self, trial: Any) -> bool:
        """Whether a trial's heartbeat goes on, as far as this process has watched it."""
        now, told = time.monotonic(), trial.user_attrs.get(BEAT)
        if told is None:
            return False
        before = self._seen.get(trial.number)
        if before is None or before[0] != told:
            self._seen[trial.number] = (told, now)
            return True
        return now - before[1] < PATIENCE


def _id_of(storage: Any, name: str) -> int | None:
    """The study of a name; None where it has just gone."""
    try:
        return int(storage.get_study_id_from_name(name))
    except KeyError:
        return None


def _delete(storage: Any, study: int) -> None:
    """Delete a study, unless somebody just has."""
    with suppress(KeyError):
        storage.delete_study(study)
