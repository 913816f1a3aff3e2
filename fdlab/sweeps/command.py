"""A trial as a command that any machine can run: pickled, sent, and answering with how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fdlab.sweeps.processes import explain
from fdlab.sweeps.trial import Trial, log_of

SAVE_SECONDS = 120.0
"""Until a trial that was asked to save is ended."""


LOOK = 0.5
"""Seconds between two looks at a process."""


@dataclass
class Command:
    """`python -m fdlab ...` of one trial, run where it is called."""

    words: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    program: Sequence[str] = ()
    """In place of this Python's fdlab."""
    _process: subprocess.Popen[Any] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, trial: Trial, environment: Mapping[str, str] | None = None) -> Command:
        """The command of a trial, whose output goes to a log beside its run directory."""
        return cls([trial.verb, *trial.overrides], log_of(trial), dict(environment or {}))

    def __call__(self) -> str:
        """Run it to its end; returns why it failed, or an empty text."""
        from fdlab.__main__ import ERROR_FILE

        program = list(self.program) or [sys.executable, "-m", "fdlab"]
        with tempfile.TemporaryDirectory() as folder, self.log.open("ab") as output:
            reason = Path(folder) / "error.txt"
            with _heard():
                self._process = subprocess.Popen(
                    [*program, *self.words],
                    env={**os.environ, **self.environment, ERROR_FILE: str(reason)},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    process_group=0,
                )
            try:
                return explain(_ended(self._process), reason)
            except KeyboardInterrupt:
                self.save(SAVE_SECONDS)
                raise
            finally:
                self._process = None

    def anew(self) -> Command:
        """The same, to be run once more."""
        return Command(self.words, self.log, self.environment, self.program)

    def save(self, seconds: float) -> None:
        """Have it save and end; end it hard after that many seconds."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        # Not SIGINT: what starts processes on a cluster may have that ignored, and so do their children.
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()


def _ended(process: subprocess.Popen[Any]) -> int:
    """Wait in short waits: Ray cancels by an interrupt that Python sees between two of them."""
    while True:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(LOOK)


@contextmanager
def _heard() -> Iterator[None]:
    """Start processes that hear signals: threads of a cluster's worker may have them blocked, which is
    inherited."""
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
