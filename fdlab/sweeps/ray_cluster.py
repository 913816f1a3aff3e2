"""Trials as tasks of a Ray cluster."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fdlab import lock
from fdlab.errors import UserError
from fdlab.sweeps.command import SAVE_SECONDS, Command
from fdlab.sweeps.processes import INTERRUPTED, THREADS
from fdlab.sweeps.trial import Trial


class RayTasks:
    """Runs trials as tasks, at most `jobs` at once, each with its share of a node's cores and GPUs.

    A trial whose node is lost is begun again on another, where it goes on from its run directory.
    """

    def __init__(self, settings: Mapping[str, Any], jobs: int) -> None:
        self.jobs, self.interrupted = jobs, False
        ray = connect(str(settings["address"]))
        cpus, gpus = float(settings["cpus"]), float(settings["gpus"])
        lacking(ray, cpus, gpus)
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=int(settings["retries"]))
        self._run = task(_run)
        self._cores = max(1, int(cpus))
        self._guard = threading.Lock()
        self._alive: dict[Path, Any] = {}

    def __call__(self, trial: Trial) -> str:
        """Run a trial to its end; returns why it failed, or an empty text."""
        import ray

        with self._guard:
            if self.interrupted:
                return INTERRUPTED
            environment = {} if THREADS in os.environ else {THREADS: str(self._cores)}
            task = self._run.remote(Command.of(trial, environment))
            self._alive[trial.own] = task
        try:
            return str(ray.get(task))
        except ray.exceptions.TaskCancelledError:
            _until_saved(trial.folder)
            return INTERRUPTED
        except ray.exceptions.RayError as error:
            if self.interrupted:
                return INTERRUPTED
            said = [line for line in str(error).splitlines() if line.strip()]
            return f"{type(error).__name__}: {said[0].strip()[:200] if said else ''}"
        finally:
            with self._guard:
                self._alive.pop(trial.own)

    def interrupt(self) -> None:
        """Ask every task to save and end; none is started afterwards."""
        self.interrupted = True
        for folder in list(self._alive):
            self._cancel(folder)

    def stop(self, trial: Trial) -> None:
        """Ask a trial's task to save and end."""
        self._cancel(trial.own)

    def _cancel(self, folder: Path) -> None:
        import ray

        with self._guard:
            task = self._alive.get(folder)
        if task is not None:
            ray.cancel(task)


def _until_saved(folder: Path) -> None:
    """A cancelled task is given up at once; its trial still saves, and would end with this process."""
    since = time.monotonic()
    while lock.holder(folder) and time.monotonic() - since < SAVE_SECONDS:
        time.sleep(0.2)


def _run(command: Command) -> str:
    """On a node; a task is cancelled by a KeyboardInterrupt, at which the trial saves."""
    return command()


def connect(address: str) -> Any:
    """Join a cluster, or start one of this machine. Raises: UserError where there is none, or no Ray."""
    try:
        import ray
    except ImportError:
        raise UserError("launcher=ray needs Ray: pip install 'fdlab[ray]'.") from None
    if ray.is_initialized():
        return ray
    try:
        ray.init(address=None if address == "local" else address, log_to_driver=False, logging_level="error")
    except (ConnectionError, ValueError, RuntimeError) as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(
            f"launcher.address={address}: {said}; start a cluster with `ray start --head`, or give "
            "launcher.address=local."
        ) from None
    return ray


def lacking(ray: Any, cpus: float, gpus: float) -> None:
    """That some node has what a trial is to get: Ray would wait for one for ever. Raises: UserError."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        return
    most = ", ".join(f"{node.get('CPU', 0):g} cores and {node.get('GPU', 0):g} GPUs" for node in nodes)
    raise UserError(f"launcher.cpus={cpus:g} launcher.gpus={gpus:g}: no node has so much; there are {most}.")
