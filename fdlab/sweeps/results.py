"""What a search found: a table of its trials, the best of them, and an experiment to go on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fdlab.config import locate
from fdlab.config.overrides import Line
from fdlab.errors import UserError
from fdlab.files import write_text
from fdlab.sweeps import paired
from fdlab.sweeps.dimensions import written
from fdlab.sweeps.grid import cell
from fdlab.sweeps.space import key_of
from fdlab.sweeps.study import ERROR, FOLDER, INTERVALS, Study

STATES = {
    "COMPLETE": "done", "FAIL": "FAILED", "PRUNED": "pruned", "RUNNING": "runs", "WAITING": "waits",
}  # fmt: skip


def table(study: Study) -> tuple[list[str], list[list[str]]]:
    """Header and a row a trial: its point, every objective with its interval, and how it stands."""
    names = study.settings.objective
    header = ["trial", *study.space.dimensions, *names, "state", "run"]
    rows = []
    for trial in study.trials():
        point = [written(trial.params[key]) if key in trial.params else "" for key in study.space.dimensions]
        values = [cell(_metric(trial, place, name)) for place, name in enumerate(names)]
        rows.append([str(trial.number), *point, *values, _state(study, trial), _run(trial)])
    return header, rows


def best(study: Study) -> list[Any]:
    """The best trial, or, of several objectives, those that none beats in all. Raises: UserError where none
    has ended."""
    done = [trial for trial in study.trials() if trial.values]
    if not done:
        raise UserError(f"no trial of '{study.folder}' has ended well yet.")
    signs = [1 if direction == "maximize" else -1 for direction in study.settings.directions]
    scores = [[sign * value for sign, value in zip(signs, t.values, strict=True)] for t in done]
    kept = [
        trial
        for trial, score in zip(done, scores, strict=True)
        if not any(_beats(other, score) for other in scores)
    ]
    return kept if len(signs) > 1 else kept[:1]


def summary(study: Study) -> list[str]:
    """How far the search is, and what leads."""
    trials = study.trials()
    counts = {word: sum(STATES[t.state.name] == word for t in trials) for word in STATES.values()}
    lines = [
        f"{len(trials)} of {study.most} trials: "
        + ", ".join(f"{num} {word}" for word, num in counts.items() if num)
    ]
    if study.is_stopped and len(trials) < study.most:
        lines.append("stopped: no further trial is begun until `sweep` is called again")
    if any(trial.values for trial in trials):
        leading = best(study)
        lines.append("best:" if len(study.settings.objective) == 1 else f"front of {len(leading)}:")
        for trial in leading:
            found = [f"{key_of(name)}={written(value)}" for name, value in trial.params.items()]
            scores = [
                f"{name} {cell(_metric(trial, n, name))}" for n, name in enumerate(study.settings.objective)
            ]
            lines.append(f"  trial {trial.number}: {' '.join(found)}: {', '.join(scores)}")
        lines += _alike(study, leading[0])
    return lines


def _alike(study: Study, leader: Any) -> list[str]:
    """Of a search over sampling: which trials are as good, as far as their pictures can tell."""
    if study.space.verb != "evaluate" or len(study.settings.objective) > 1:
        return []
    found = paired.beside(study, leader)
    if not found:
        return []
    words = [f"{trial.number} ({d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}])" for trial, d in found]
    return [f"not told from it by the same pictures: trials {', '.join(words)}"]


def write_best(study: Study) -> Path:
    """Write the best trial's settings as an experiment, conf/exp/NAME.yaml; NAME is the search's.

    Of several objectives the first decides. Raises: UserError, also where another file is there.
    """
    leading = best(study)[0]
    overrides = [*study.space.overrides(leading.params)]
    chosen = {line.key: line.value for line in map(Line.read, overrides)}
    numbers = {key_of(name): value for name, value in leading.params.items()}
    base = chosen.pop("exp", None)
    path = locate.conf_dir() / "exp" / f"{study.folder.name}.yaml"
    score = f"{study.settings.objective[0]} {cell(_metric(leading, 0, study.settings.objective[0]))}"
    ours = f"of the search {study.folder.name}:"
    head = f"# @package _global_\n# Trial {leading.number} {ours} {score}.\n"
    defaults: list[Any] = [base] if base else []
    groups = {path.name for path in locate.conf_dir().iterdir() if path.is_dir()}
    defaults += [{f"override /{key}": value} for key, value in chosen.items() if key in groups]
    tree: dict[str, Any] = {"defaults": [*defaults, "_self_"]} if defaults else {}
    for key, value in chosen.items():
        if key not in groups and not key.startswith("paths."):
            number = numbers.get(key)
            # YAML takes 1e-05 for a text.
            _put(tree, key.split("."), number if isinstance(number, float) else yaml.safe_load(value))
    if path.exists() and ours not in path.read_text(encoding="utf-8"):
        raise UserError(f"'{path}' is there already; choose another sweep.name=.")
    write_text(path, head + yaml.safe_dump(tree, sort_keys=False))
    return path


def _put(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value


def _beats(one: list[float], other: list[float]) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))


def _metric(trial: Any, place: int, name: str) -> dict[str, Any] | None:
    if not trial.values:
        return None
    low, high = trial.user_attrs.get(INTERVALS, {}).get(name, (None, None))
    return {"value": trial.values[place], "ci_low": low, "ci_high": high}


def _state(study: Study, trial: Any) -> str:
    word = STATES[trial.state.name]
    if word == "runs" and not study.is_claimed(trial):
        return "left; goes on with the next worker"
    return f"FAILED: {trial.user_attrs.get(ERROR, '?')}" if word == "FAILED" else word


def _run(trial: Any) -> str:
    return str(trial.user_attrs.get(FOLDER, ""))
