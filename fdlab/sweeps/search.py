"""Works on a search: claims trials, runs each as a command of its own, and tells the study what its record
says."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fdlab import lock
from fdlab.errors import Failure, UserError
from fdlab.progress import format_seconds
from fdlab.records.validation_history import History
from fdlab.sweeps import driver, page
from fdlab.sweeps.dimensions import written
from fdlab.sweeps.launchers import Launcher
from fdlab.sweeps.processes import INTERRUPTED
from fdlab.sweeps.space import key_of
from fdlab.sweeps.study import FOLDER, Claim, Study
from fdlab.sweeps.trial import Trial

LOOK = 2.0
"""Seconds between two looks at what validation reports."""
BETWEEN_PAGES = 15.0
"""Seconds between two pages while trials end."""
VALIDATION = "validation.csv"


@dataclass
class Worker:
    """One process that works on a search, with `jobs` trials at once."""

    study: Study
    processes: Launcher
    runner: Callable[[Trial], str] | None = None
    """Runs a trial in place of a process."""
    _shown: float = field(default_factory=time.monotonic)
    _page: threading.Lock = field(default_factory=threading.Lock)
    """matplotlib draws for one thread at a time."""

    def work(self, jobs: int = 1) -> int:
        """Take trials until the search is over; returns how many ended here.

        After a Ctrl-C the trials save, end, and are left for whoever works on next. Raises: Failure where
        every trial of the search failed.
        """
        self._deadline = time.monotonic() + 3600 * (self.study.settings.hours or math.inf)
        self.study.go_on()
        with ThreadPoolExecutor(jobs) as pool:
            futures = [pool.submit(self._take) for _ in range(jobs)]
            driver.finish(futures, self.processes)
        if self.study.trials():
            page.write(self.study)
        self._check_some_succeeded()
        return sum(future.result() for future in futures)

    def _take(self) -> int:
        done = 0
        while time.monotonic() < self._deadline and not self.processes.interrupted:
            claim = self.study.next()
            if claim is not None:
                done += self._one(claim)
            elif not self.study.awaits():
                break
            else:
                time.sleep(LOOK)
        return done

    def _one(self, claim: Claim) -> bool:
        """Run a trial; False where it was interrupted, and goes on another time."""
        space = self.study.space
        varied = {key_of(name): written(value) for name, value in claim.point.items()}
        name = f"[trial {claim.trial.number}] {' '.join(f'{key}={value}' for key, value in varied.items())}"
        begun = time.monotonic()
        try:
            overrides, group = space.overrides(claim.point), self.study.folder.name
            trial = Trial.make(overrides, varied, space.verb, group)
            claim.trial.set_user_attr(FOLDER, str(trial.folder))
            print(f"{name}: {'finished before' if trial.finished else 'starts'} ({trial.folder})", flush=True)
            failed, pruned = self._run(claim, trial)
            if failed and self.processes.interrupted and not pruned:
                self.study.release(claim)
                print(f"{name}: {INTERRUPTED}", flush=True)
                return False
            metrics = {} if failed else trial.metrics()
        except UserError as error:
            failed, pruned, metrics = str(error), False, {}
        said = self.study.tell(claim, metrics, "" if pruned else failed, pruned)
        self._show()
        print(f"{name}: {said}, {format_seconds(time.monotonic() - begun)}", flush=True)
        return True

    def _run(self, claim: Claim, trial: Trial) -> tuple[str, bool]:
        """Why a trial failed ("": it did not), and whether it was pruned."""
        while True:
            # A worker that was killed leaves its trial's process running: that one goes on to the end. And
            # another trial of the same point is the same run.
            if busy := lock.holder(trial.folder):
                print(f"waiting for {busy}", flush=True)
            while lock.holder(trial.folder):
                if self.processes.interrupted:
                    return INTERRUPTED, False
                time.sleep(LOOK)
            if trial.finished:
                return "", False
            pruned = threading.Event()
            with self._pruning(claim, trial, pruned):
                failed = (self.runner or self.processes)(trial)
            if not failed or pruned.is_set() or not lock.holder(trial.folder):
                return failed, pruned.is_set() and bool(failed)

    @contextmanager
    def _pruning(self, claim: Claim, trial: Trial, pruned: threading.Event) -> Iterator[None]:
        """Report what validation finds while a training runs, and end it where it is not worth going on."""
        over = threading.Event()

        def watch() -> None:
            seen: set[int] = set()
            while not over.wait(LOOK):
                if report(claim, trial.folder / VALIDATION, self.study.settings.objective[0], seen):
                    pruned.set()
                    self.processes.stop(trial)
                    return

        if self.study.settings.pruner == "none":
            yield
            return
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    def _show(self) -> None:
        """Bring the page up to date, now and then."""
        with self._page:
            if time.monotonic() - self._shown > BETWEEN_PAGES:
                page.write(self.study)
                self._shown = time.monotonic()

    def _check_some_succeeded(self) -> None:
        trials = [trial for trial in self.study.trials() if trial.state.is_finished()]
        if trials and all(trial.state.name == "FAIL" for trial in trials):
            error = trials[-1].user_attrs.get("error", "?")
            raise Failure(f"all {len(trials)} trials failed; the last: {error}")


def report(claim: Claim, validation: Path, metric: str, seen: set[int]) -> bool:
    """Tell the pruner the rows of validation.csv that are new; True where the trial should end."""
    for step, values in History.read(validation).rows:
        if step not in seen and metric in values:
            seen.add(step)
            claim.trial.report(values[metric], step)
            if claim.trial.should_prune():
                return True
    return False
