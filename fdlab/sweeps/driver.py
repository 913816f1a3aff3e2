"""Runs trials, several at once if asked for: what is finished is not run again, a failure stops no other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from fdlab.errors import UserError
from fdlab.progress import format_seconds
from fdlab.sweeps.launchers import Launcher
from fdlab.sweeps.processes import INTERRUPTED, Processes
from fdlab.sweeps.trial import Outcome, Trial

Runner = Callable[[Trial], str]
"""Runs a trial to its end; returns why it failed, or an empty text."""
LOOK = 0.2
"""Seconds between two looks for Ctrl-C, which only the main thread sees."""


def run(
    trials: Sequence[Trial], runner: Runner | None = None, jobs: int = 1, launcher: Launcher | None = None
) -> list[Outcome]:
    """Run every trial that is not finished, `jobs` at once, say where they stand, and collect how each
    ended, in their order.

    After a Ctrl-C every process saves and ends before KeyboardInterrupt is raised; a second one is handed on
    too.
    """
    processes = launcher or Processes(jobs)
    if prepare := getattr(processes, "prepare", None):
        prepare([trial for trial in trials if not trial.finished and not trial.busy])
        # The cluster says how many run; here is one to wait for each.
        jobs = max(1, len(trials))
    with ThreadPoolExecutor(jobs) as pool:
        futures = [
            pool.submit(_one, trial, runner or processes, f"[{number}/{len(trials)}] {trial.words}")
            for number, trial in enumerate(trials, 1)
        ]
        finish(futures, processes)
    return [future.result() for future in futures]


def finish(futures: Sequence[Future[Any]], processes: Launcher) -> None:
    """Wait for all; hand every Ctrl-C on, and raise KeyboardInterrupt once all have ended."""
    interrupted = False
    while True:
        try:
            if not wait(futures, timeout=LOOK).not_done:
                break
        except KeyboardInterrupt:
            interrupted = True
            for future in futures:
                future.cancel()
            processes.interrupt()
    if interrupted:
        raise KeyboardInterrupt


def _one(trial: Trial, runner: Runner, name: str) -> Outcome:
    if trial.finished:
        print(f"{name}: finished before ({trial.folder})", flush=True)
        return _collected(trial, "", name)
    if busy := trial.busy:
        print(f"{name}: still runs: {busy} ({trial.folder})", flush=True)
        return Outcome(trial, f"still runs: {busy}")
    print(f"{name}: starts ({trial.folder})", flush=True)
    begun = time.monotonic()
    outcome = _collected(trial, runner(trial), name)
    if not outcome.error:
        print(f"{name}: done in {format_seconds(time.monotonic() - begun)}", flush=True)
    return outcome


def _collected(trial: Trial, error: str, name: str) -> Outcome:
    metrics = {}
    try:
        metrics = {} if error else trial.metrics()
    except UserError as damaged:
        error = str(damaged)
    if error:
        print(f"{name}: {error if error == INTERRUPTED else f'failed: {error}'}", flush=True)
    return Outcome(trial, error, metrics)
