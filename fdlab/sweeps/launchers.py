"""Where trials run: `launcher=local|slurm|ray` and its settings, taken out of a command's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from fdlab.config.compose import settings_of
from fdlab.errors import unknown
from fdlab.sweeps.processes import Processes
from fdlab.sweeps.trial import Trial

LAUNCHER = "launcher"
CONFIG = "launch"
LOCAL, SLURM, RAY = KINDS = ("local", "slurm", "ray")


class Launcher(Protocol):
    """Runs trials, at most `jobs` at once. One that has `prepare` is shown all trials of a grid first."""

    jobs: int
    interrupted: bool

    def __call__(self, trial: Trial) -> str:
        """Run a trial to its end; returns why it failed, or an empty text."""

    def interrupt(self) -> None:
        """Have every trial save and end; none is started afterwards."""

    def stop(self, trial: Trial) -> None:
        """Have a trial save and end."""


def split(words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Words without those about the launcher, and its settings. Raises: UserError."""
    own = [word for word in words if _is_own(word)]
    return [word for word in words if not _is_own(word)], settings_of(own, CONFIG)[LAUNCHER]


def make(settings: Mapping[str, Any], jobs: int, folder: Path, quiet: bool = False) -> Launcher:
    """The launcher that is asked for; `folder` is where a cluster's own files go. Raises: UserError for one
    that is not installed or not to be reached."""
    if settings["kind"] == LOCAL:
        return Processes(jobs, quiet)
    if settings["kind"] == SLURM:
        from fdlab.sweeps.slurm import SlurmJobs

        return SlurmJobs(settings, jobs, folder)
    if settings["kind"] == RAY:
        from fdlab.sweeps.ray_cluster import RayTasks

        return RayTasks(settings, jobs)
    raise unknown("launcher.kind", str(settings["kind"]), KINDS)


def _is_own(word: str) -> bool:
    key = word.partition("=")[0].lstrip("+")
    return key == LAUNCHER or key.startswith(f"{LAUNCHER}.")
