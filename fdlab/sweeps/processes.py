"""Trials as processes: threads and GPUs shared out, and Ctrl-C handed on, once, to each that runs."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from fdlab.sweeps.trial import Trial, log_of

THREADS = "OMP_NUM_THREADS"
DEVICES = "CUDA_VISIBLE_DEVICES"
INTERRUPTED = "interrupted; the same command goes on"


class Processes:
    """Runs trials, each as `python -m fdlab ...`, at most `jobs` at once.

    Of several at once, and where `quiet`, output goes to a log a trial.
    """

    def __init__(self, jobs: int = 1, quiet: bool = False) -> None:
        self.jobs, self.quiet = jobs, quiet or jobs > 1
        self._slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(jobs):
            self._slots.put(slot)
        self._alive: dict[subprocess.Popen[Any], Path | None] = {}
        self._guard = threading.Lock()
        self.interrupted = False

    def __call__(self, trial: Trial) -> str:
        """Run a trial to its end; returns why it failed, or an empty text."""
        from fdlab.__main__ import ERROR_FILE

        slot = self._slots.get()
        try:
            with tempfile.TemporaryDirectory() as folder:
                reason = Path(folder) / "error.txt"
                command = [sys.executable, "-m", "fdlab", trial.verb, *trial.overrides]
                environment = {**os.environ, **share(slot, self.jobs), ERROR_FILE: str(reason)}
                status = self.wait(command, environment, log_of(trial) if self.quiet else None, trial.own)
                return explain(status, reason)
        finally:
            self._slots.put(slot)

    def wait(
        self,
        command: list[str],
        environment: dict[str, str],
        log: Path | None = None,
        folder: Path | None = None,
    ) -> int:
        """Run a process, which works in `folder`, to its end; its exit status, negative where a signal ended
        it."""
        with Path(log or os.devnull).open("ab") as output:
            to: dict[str, Any] = {"stdout": output, "stderr": subprocess.STDOUT} if log else {}
            with self._guard:
                if self.interrupted:
                    return 130
                # In a group of its own, since a terminal sends Ctrl-C to a whole group.
                process = subprocess.Popen(
                    command, env=environment, stdin=subprocess.DEVNULL, process_group=0, **to
                )
                self._alive[process] = folder
            try:
                return process.wait()
            finally:
                with self._guard:
                    self._alive.pop(process)

    def interrupt(self) -> None:
        """Ask every process that runs to save and end; none is started afterwards."""
        with self._guard:
            self.interrupted = True
            for process in self._alive:
                process.send_signal(signal.SIGINT)

    def stop(self, trial: Trial) -> None:
        """Ask a trial's process to save and end."""
        with self._guard:
            for process, folder in self._alive.items():
                if folder == trial.own:
                    process.send_signal(signal.SIGINT)


def share(slot: int, jobs: int) -> dict[str, str]:
    """Environment of one of `jobs` processes: its part of the cores and of the GPUs, unless somebody said."""
    if jobs == 1:
        return {}
    found = {}
    if THREADS not in os.environ:
        found[THREADS] = str(max(1, len(os.sched_getaffinity(0)) // jobs))
    devices = _devices()
    if len(devices) > 1:
        own = devices[slot::jobs] or [devices[slot % len(devices)]]
        found[DEVICES] = ",".join(own)
    return found


def _devices() -> list[str]:
    if os.environ.get(DEVICES):
        return os.environ[DEVICES].split(",")
    import torch

    return [str(n) for n in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)]


def explain(status: int, reason: Path) -> str:
    """Why a process failed, as its status and the file it leaves its error in say; empty: it did not."""
    if status == 0:
        return ""
    if status == 130:
        return INTERRUPTED
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return reason.read_text().strip().removeprefix("error: ") if reason.is_file() else f"exit status {status}"
