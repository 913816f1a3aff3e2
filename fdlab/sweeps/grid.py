"""A plain grid: every combination of the values given, one process and one run directory each, in turn.

All combinations are composed before the first starts, so that a wrong value costs seconds. A trial that ended
well is not repeated, a trial that fails stops none of the others.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fdlab import lock
from fdlab.benchmarks.choice import NONE
from fdlab.config.compose import compose, variants
from fdlab.config.naming import run_dir
from fdlab.errors import UserError
from fdlab.records import record

MAX_TRIALS = 10_000


@dataclass(frozen=True)
class Trial:
    """One combination."""

    overrides: list[str]
    varied: dict[str, str]
    """The keys that the grid varies, with this trial's values."""
    folder: Path
    measured: bool
    """Whether its experiment ends with a record; otherwise model weights are all it leaves."""

    @property
    def finished(self) -> bool:
        """Whether an earlier process took this trial to its end."""
        return (self.folder / ("evaluation/record.json" if self.measured else "model")).exists()


@dataclass(frozen=True)
class Outcome:
    """How a trial ended."""

    trial: Trial
    error: str = ""
    """Empty: well."""
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)


Runner = Callable[[Trial], str]
"""Runs a trial to its end; returns why it failed, or an empty text."""


def expand(overrides: Sequence[str]) -> list[tuple[list[str], dict[str, str]]]:
    """All combinations of overrides such as `seed=1,2` or `model.lr=range(1,4)`, the last varying fastest.

    Returns (overrides of one trial, its varied keys and values). Raises: UserError.
    """
    axes: list[list[tuple[str, dict[str, str]]]] = []
    for line, values in variants(overrides):
        if values == [line.value]:
            axes.append([(line.given, {})])
        else:
            start = line.given.partition("=")[0]
            varies = len(values) > 1
            axes.append([(f"{start}={value}", {line.key: value} if varies else {}) for value in values])
    combinations = list(itertools.islice(itertools.product(*axes), MAX_TRIALS + 1))
    if len(combinations) > MAX_TRIALS:
        raise UserError(f"this grid has more than {MAX_TRIALS} combinations.")
    return [
        ([line for line, _ in combination], {k: v for _, varied in combination for k, v in varied.items()})
        for combination in combinations
    ]


def plan(overrides: Sequence[str]) -> list[Trial]:
    """Compose every combination. Raises: UserError, also where two would share a run directory."""
    trials = []
    for lines, varied in expand(overrides):
        cfg = compose(lines)
        trials.append(Trial(lines, varied, run_dir(cfg), cfg.evaluate and cfg.benchmark.kind != NONE))
    folders: dict[Path, Trial] = {}
    for trial in trials:
        other = folders.setdefault(trial.folder, trial)
        if other is not trial:
            one, two = (" ".join(f"{k}={v}" for k, v in t.varied.items()) for t in (other, trial))
            raise UserError(
                f"several combinations would write to '{trial.folder}', as {one} and {two}; "
                "give each value once, and leave out name=."
            )
    return trials


def run(trials: Sequence[Trial], runner: Runner | None = None) -> list[Outcome]:
    """Run every trial that is not finished, say where the grid stands, and collect how each ended."""
    outcomes = []
    for number, trial in enumerate(trials, 1):
        varied = " ".join(f"{key}={value}" for key, value in trial.varied.items()) or "the only combination"
        busy = "" if trial.finished else lock.holder(trial.folder)
        state = f"still runs: {busy}" if busy else "finished before" if trial.finished else "starts"
        print(f"[{number}/{len(trials)}] {varied}: {state} ({trial.folder})", flush=True)
        if busy:
            outcomes.append(Outcome(trial, f"still runs: {busy}"))
            continue
        error = "" if trial.finished else (runner or run_process)(trial)
        metrics = {}
        try:
            metrics = {} if error else read_metrics(trial.folder)
        except UserError as damaged:
            error = str(damaged)
        if error:
            print(f"[{number}/{len(trials)}] failed: {error}", flush=True)
        outcomes.append(Outcome(trial, error, metrics))
    return outcomes


def run_process(trial: Trial) -> str:
    """Run one trial as `python -m fdlab train ...` in a process of its own."""
    from fdlab.__main__ import ERROR_FILE

    with tempfile.TemporaryDirectory() as folder:
        reason = Path(folder) / "error.txt"
        command = [sys.executable, "-m", "fdlab", "train", *trial.overrides]
        environment = {**os.environ, ERROR_FILE: str(reason)}
        status = _wait(command, environment)
        if status == 0:
            return ""
        if status == 130:
            raise KeyboardInterrupt
        if status < 0:
            return f"killed by {signal.Signals(-status).name}"
        return (
            reason.read_text().strip().removeprefix("error: ")
            if reason.is_file()
            else f"exit status {status}"
        )


def _wait(command: list[str], environment: dict[str, str]) -> int:
    """Run a process to its end; a Ctrl-C is handed on once, and waited for: it saves what it has."""
    # In a group of its own, since a terminal sends Ctrl-C to the whole group beside what is handed on here.
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, process_group=0) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                process.send_signal(signal.SIGINT)


def read_metrics(folder: Path) -> dict[str, dict[str, Any]]:
    """The metrics of a run's record; none where it has none. Raises: UserError for a damaged one."""
    path = folder / "evaluation" / "record.json"
    return dict(record.read(path)["metrics"]) if path.is_file() else {}


def table(outcomes: Sequence[Outcome]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: what was varied, every metric with its 95 % interval, and what went wrong."""
    varied = list(dict.fromkeys(key for outcome in outcomes for key in outcome.trial.varied))
    names = list(dict.fromkeys(name for outcome in outcomes for name in outcome.metrics))
    header = [*varied, *names, "result"]
    rows = []
    for outcome in outcomes:
        cells = [outcome.trial.varied.get(key, "") for key in varied]
        cells += [_cell(outcome.metrics.get(name)) for name in names]
        rows.append([*cells, f"FAILED: {outcome.error}" if outcome.error else str(outcome.trial.folder)])
    return header, rows


def _cell(metric: dict[str, Any] | None) -> str:
    if metric is None or metric.get("value") is None:
        return "-"
    text = f"{metric['value']:.3f}"
    if metric.get("ci_low") is not None and metric.get("ci_high") is not None:
        text += f" [{metric['ci_low']:.3f}, {metric['ci_high']:.3f}]"
    return text
