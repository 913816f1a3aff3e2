"""The processes that Lightning started beside this one, to train with it."""

from __future__ import annotations

import signal
import subprocess
import threading
import time

_OBSERVER = "child-process-observer"
"""Lightning's thread in the first process, which kills it without a word where one that it started fails."""
INTERRUPTED = 130
GO_ON = "the same command goes on from the last state saved."
_ASIDE = (None, 0, INTERRUPTED, -signal.SIGINT, -signal.SIGTERM)
"""Return codes of those that run, are done, or were told to end, as this one will be."""


class Children:
    """Looked at in place of Lightning's observer, from when there are any."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []

    def adopt(self) -> None:
        """Take them from the observer, which then has none to look at; the launcher has its own list."""
        for thread in threading.enumerate():
            if thread.name == _OBSERVER and (found := getattr(thread, "_child_processes", [])):
                self._processes += found
                thread._child_processes = []  # type: ignore[attr-defined]

    def failed(self) -> tuple[int, str | None] | None:
        """Status of the first that ended badly, and why it did where it could not say so itself."""
        self.adopt()
        for number, process in enumerate(self._processes, 1):
            if (code := process.poll()) not in _ASIDE:
                return (code, None) if code > 0 else (1, _killed(number, -code))
        return None

    def end(self, seconds: float) -> bool:
        """Wait so long for all to end by themselves, and kill those that do not; whether there were any."""
        self.adopt()
        until = time.monotonic() + seconds
        while (
            running := [one for one in self._processes if one.poll() is None]
        ) and time.monotonic() < until:
            time.sleep(0.05)
        for process in running:
            process.kill()
            process.wait()
        return bool(self._processes)


def _killed(number: int, by: int) -> str:
    name = signal.Signals(by).name if by in {*signal.Signals} else f"signal {by}"
    memory = ", as the system does where memory runs out" if by == signal.SIGKILL else ""
    return f"process {number} beside the first was killed ({name}){memory}; {GO_ON}"
