"""A plain grid: every combination of the values given.

All combinations are composed before the first starts, so that a wrong value costs seconds. As in a search,
`KEY=VALUES if OTHER=VALUE` varies a key where another has a value.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fdlab.benchmarks import jobs
from fdlab.config.compose import variants
from fdlab.config.overrides import Line
from fdlab.errors import UserError
from fdlab.sweeps import reading
from fdlab.sweeps.conditions import Asked
from fdlab.sweeps.space import key_of, whatever_the_place
from fdlab.sweeps.trial import CONFIGS, Outcome, Trial, Verb

MAX_TRIALS = 10_000
MAX_JOBS = 1_000
JOBS = "jobs"
"""The word that says how many trials run at once; no key of the configuration."""


def split_jobs(overrides: Sequence[str]) -> tuple[list[str], int]:
    """Overrides without `jobs=N`, and N (1 where it is not given). Raises: UserError."""
    rest, jobs = [], 1
    for given in overrides:
        if given.partition("=")[0].strip() != JOBS:
            rest.append(given)
            continue
        text = Line.read(given).text
        if not text.isdecimal() or not 1 <= int(text) <= MAX_JOBS:
            raise UserError(f"{given}: a whole number from 1 to {MAX_JOBS} is needed.")
        jobs = int(text)
    return rest, jobs


def expand(overrides: Sequence[str], config_name: str = "config") -> list[tuple[list[str], dict[str, str]]]:
    """All combinations of overrides such as `seed=1,2` or `model.lr=range(1,4)`, the last varying fastest.

    Returns (overrides of one trial, its varied keys and values). Raises: UserError.
    """
    axes: list[list[tuple[str, dict[str, str]]]] = []
    for line, values in variants(overrides, config_name):
        if values == [line.value]:
            axes.append([(line.given, {})])
        else:
            start = line.given.partition("=")[0]
            varies = len(values) > 1
            axes.append([(f"{start}={value}", {line.key: value} if varies else {}) for value in values])
    combinations = list(itertools.islice(itertools.product(*axes), MAX_TRIALS + 1))
    _check_size(len(combinations))
    return [
        ([line for line, _ in combination], {k: v for _, varied in combination for k, v in varied.items()})
        for combination in combinations
    ]


def plan(overrides: Sequence[str], verb: Verb = "train") -> list[Trial]:
    """Compose every combination. Raises: UserError, also where two would share a run directory."""
    points = _points(overrides, verb)
    group = name_of(points)
    trials = [Trial.make(lines, varied, verb, group) for lines, varied in points]
    _check_shares([trial.shard for trial in trials if trial.shard])
    folders: dict[Path, Trial] = {}
    for trial in trials:
        other = folders.setdefault(trial.own, trial)
        if other is not trial:
            raise UserError(
                f"several combinations would write to '{trial.folder}', as {other.words} and {trial.words}; "
                "give each value once, and leave out name=."
            )
    return trials


def _points(overrides: Sequence[str], verb: Verb) -> list[tuple[list[str], dict[str, str]]]:
    if not any(Asked.read(word).lines for word in overrides):
        return expand(overrides, CONFIGS[verb])
    space = reading.read(overrides, verb)
    points = list(itertools.islice(space.every(), MAX_TRIALS + 1))
    _check_size(len(points))
    return [(space.overrides(p), {key_of(name): str(value) for name, value in p.items()}) for p in points]


def name_of(points: Sequence[tuple[list[str], dict[str, str]]]) -> str:
    """A grid's name, by what it varies and what all its trials share: more values of a key are the same
    grid."""
    keys = list(dict.fromkeys(key for _, varied in points for key in varied))
    shared = [word for word in points[0][0] if all(word in lines for lines, _ in points)]
    asked = json.dumps([keys, whatever_the_place(shared)]).encode()
    return f"grid-{'-'.join([*keys, ''])[:60]}{hashlib.blake2b(asked, digest_size=4).hexdigest()}"


def _check_size(num: int) -> None:
    if num > MAX_TRIALS:
        raise UserError(f"this grid has more than {MAX_TRIALS} combinations.")


def _check_shares(shards: Sequence[str]) -> None:
    """That shares exist, and are of one number. Raises: UserError."""
    for shard in shards:
        jobs.share((), shard)
    counts = sorted({shard.partition("/")[2] for shard in shards})
    if len(counts) > 1:
        raise UserError(f"shard={','.join(shards)}: shares of {' and of '.join(counts)} make no whole.")


def table(outcomes: Sequence[Outcome]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: what was varied, every metric with its 95 % interval, and what went wrong."""
    varied = list(dict.fromkeys(key for outcome in outcomes for key in outcome.trial.varied))
    names = list(dict.fromkeys(name for outcome in outcomes for name in outcome.metrics))
    header = [*varied, *names, "result"]
    rows = []
    for outcome in outcomes:
        cells = [outcome.trial.varied.get(key, "") for key in varied]
        cells += [cell(outcome.metrics.get(name)) for name in names]
        rows.append([*cells, f"FAILED: {outcome.error}" if outcome.error else str(outcome.trial.folder)])
    return header, rows


def cell(metric: dict[str, Any] | None) -> str:
    """A metric with its interval."""
    if metric is None or metric.get("value") is None:
        return "-"
    text = f"{metric['value']:.3f}"
    if metric.get("ci_low") is not None and metric.get("ci_high") is not None:
        text += f" [{metric['ci_low']:.3f}, {metric['ci_high']:.3f}]"
    return text
