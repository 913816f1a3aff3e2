"""Trials as SLURM jobs, through submitit: an array for a grid, a job each for a search."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdlab.errors import UserError
from fdlab.sweeps.command import Command
from fdlab.sweeps.processes import INTERRUPTED
from fdlab.sweeps.trial import Trial

LOOK = 2.0
"""Seconds between two looks at a job; submitit asks SLURM itself once a minute."""


@dataclass
class Job:
    """What a node runs; submitit calls `checkpoint` when its time is over or somebody takes the node."""

    command: Command
    save_seconds: float

    def __call__(self) -> str:
        """Run the trial to its end; returns why it failed, or an empty text."""
        return self.command()

    def checkpoint(self) -> Any:
        """Save, and go on as another job: the same command goes on where it stopped."""
        import submitit

        self.command.save(self.save_seconds)
        return submitit.helpers.DelayedSubmission(Job(self.command.anew(), self.save_seconds))


class SlurmJobs:
    """Runs trials as jobs of a cluster, at most `jobs` at once."""

    def __init__(self, settings: Mapping[str, Any], jobs: int, folder: Path) -> None:
        self.jobs, self.interrupted = jobs, False
        self.save_seconds = float(settings["save_seconds"])
        self.executor = executor(settings, jobs, folder)
        self._guard = threading.Lock()
        self._ready: dict[Path, Any] = {}
        self._alive: dict[Path, Any] = {}

    def prepare(self, trials: Sequence[Trial]) -> None:
        """Submit trials as one array."""
        if not trials:
            return
        with self.executor.batch():
            jobs = [self.executor.submit(self._job(trial)) for trial in trials]
        self._ready |= {trial.own: job for trial, job in zip(trials, jobs, strict=True)}
        print(f"submitted as {jobs[0].job_id.partition('_')[0]}", flush=True)

    def __call__(self, trial: Trial) -> str:
        """Wait for a trial's job, which is submitted unless it was; returns why it failed, or an empty
        text."""
        with self._guard:
            if self.interrupted:
                return INTERRUPTED
            job = self._ready.pop(trial.own, None) or self.executor.submit(self._job(trial))
            self._alive[trial.own] = job
        try:
            while not job.done():
                time.sleep(LOOK)
            return INTERRUPTED if self.interrupted else _outcome(job)
        finally:
            with self._guard:
                self._alive.pop(trial.own)

    def interrupt(self) -> None:
        """Cancel every job; what they saved stays, and no other is submitted."""
        with self._guard:
            self.interrupted = True
            for job in (*self._alive.values(), *self._ready.values()):
                job.cancel(check=False)

    def stop(self, trial: Trial) -> None:
        """Cancel a trial's job, also one of an array that nobody waits for yet: the cluster may run it."""
        with self._guard:
            job = self._alive.get(trial.own) or self._ready.get(trial.own)
            if job is not None:
                job.cancel(check=False)

    def _job(self, trial: Trial) -> Job:
        return Job(Command.of(trial), self.save_seconds)


def executor(settings: Mapping[str, Any], jobs: int, folder: Path) -> Any:
    """submitit's executor as the settings say. Raises: UserError where there is no submitit or no SLURM."""
    try:
        import submitit
    except ImportError:
        raise UserError("launcher=slurm needs submitit: pip install 'fdlab[slurm]'.") from None
    try:
        made = submitit.AutoExecutor(
            folder=folder / "%j",
            cluster=settings["cluster"],
            slurm_max_num_timeout=int(settings["requeues"]),
        )
    except (RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise UserError(f"launcher=slurm: {said}; it has to be called where `sbatch` is.") from None
    chosen = {f"slurm_{key}": settings[key] for key in ("partition", "account", "qos", "constraint")}
    made.update_parameters(
        name="fdlab",
        timeout_min=int(settings["minutes"]),
        cpus_per_task=int(settings["cpus"]),
        gpus_per_node=int(settings["gpus"]),
        mem_gb=float(settings["memory"]),
        slurm_array_parallelism=jobs,
        slurm_signal_delay_s=int(settings["save_seconds"]) + 30,
        slurm_setup=list(settings["setup"]) or None,
        **{key: value for key, value in chosen.items() if value is not None},
    )
    return made


def _outcome(job: Any) -> str:
    """Why a job failed, in one line: what its trial said, or else what the cluster did to it."""
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        return str(job.result())
    except UncompletedJobError:
        last = _last_line(job.stderr() or "")
        return f"job {job.job_id} ended without an answer, in state {job.state}{last and ': '}{last}"
    except FailedJobError as error:
        return f"job {job.job_id}: {_last_line(str(error))}"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""
