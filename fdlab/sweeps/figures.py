"""Figures of a search: history, importance, parallel coordinates, slices, Pareto front; PNG files."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fdlab import escape as shown
from fdlab.metrics.registry import METRICS
from fdlab.records.figures import OTHERS, OWN, save
from fdlab.sweeps.dimensions import Choice, Dimension
from fdlab.sweeps.parallel import draw_parallel, label
from fdlab.sweeps.study import INTERVALS, Study

COLUMNS = 3
FEWEST = 8
"""Trials from which on it can be said what mattered."""


def draw(study: Study, done: Sequence[Any], leading: set[int]) -> list[tuple[str, Path]]:
    """Draw every figure that the trials which are `done` allow into the search's folder: captions and
    paths."""
    made = []
    for place, name in enumerate(study.settings.objective):
        history, slices = study.folder / f"history-{name}.png", study.folder / f"slices-{name}.png"
        _history(study, done, place, history)
        _slices(study, done, place, leading, slices)
        made += [(f"{METRICS[name].label}: every trial, and the best so far", history)]
        made += [(f"{METRICS[name].label} by what was varied", slices)]
        if len(study.space.dimensions) > 1:
            lines = study.folder / f"parallel-{name}.png"
            draw_parallel(study, done, place, leading, lines)
            made += [(f"a line a trial, darker with a better {METRICS[name].label}; the best in blue", lines)]
        if (shares := importance(study, place)) is not None:
            bars = study.folder / f"importance-{name}.png"
            _importance(shares, bars)
            kept = " (keys that every trial has)" if study.space.conditions else ""
            made += [(f"share of the differences in {METRICS[name].label} that a key explains{kept}", bars)]
    if len(study.settings.objective) > 1:
        front = study.folder / "front.png"
        _front(study, done, leading, front)
        made.insert(0, ("those that none beats in all", front))
    return made


def importance(study: Study, place: int) -> dict[str, float] | None:
    """Each key's share of what tells good trials from the others (PED-ANOVA, Watanabe et al. 2023), largest
    first; None where trials are too few, or all alike. Of keys that every trial has: the shares of others
    would be of other trials."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState

    trials = study.optuna.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    if len(trials) < FEWEST or len({trial.values[place] for trial in trials}) < 2:
        return None
    shared = [key for key in study.space.dimensions if key not in study.space.conditions]
    varied = [key for key in shared if len({trial.params[key] for trial in trials}) > 1]
    if len(varied) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = get_param_importances(
            study.optuna, evaluator=PedAnovaImportanceEvaluator(), params=varied,
            target=lambda trial: trial.values[place],
        )  # fmt: skip
    total = sum(found.values())
    return {key: float(value) / total for key, value in found.items()} if total > 0 else None


def _importance(shares: dict[str, float], path: Path) -> None:
    figure = Figure(figsize=(6, 0.34 * len(shares) + 0.8), layout="constrained")
    axis = figure.subplots()
    places = range(len(shares))
    axis.barh(places, list(shares.values()), color=OWN, height=0.6)
    axis.set_yticks(places, [shown.figure(key) for key in shares])
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    _tidy(axis)
    save(figure, path)


def _history(study: Study, done: Sequence[Any], place: int, path: Path) -> None:
    name, upwards = study.settings.objective[place], study.settings.directions[place] == "maximize"
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    axis = figure.subplots()
    numbers, values = [trial.number for trial in done], np.array([trial.values[place] for trial in done])
    ends = [trial.user_attrs.get(INTERVALS, {}).get(name, (None, None)) for trial in done]
    known = [(number, *pair) for number, pair in zip(numbers, ends, strict=True) if None not in pair]
    if known:
        axis.vlines(*zip(*known, strict=True), color=OTHERS, linewidth=1)
    axis.plot(numbers, values, "o", color=OTHERS, markersize=4)
    best = (np.maximum if upwards else np.minimum).accumulate(values)
    axis.step(numbers, best, where="post", color=OWN, linewidth=1.6)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("trial", fontsize=8)
    axis.set_ylabel(METRICS[name].label, fontsize=8)
    _tidy(axis)
    save(figure, path)


def _slices(study: Study, done: Sequence[Any], place: int, leading: set[int], path: Path) -> None:
    keys = list(study.space.dimensions)
    columns = min(COLUMNS, len(keys))
    num_rows = -(-len(keys) // columns)
    figure = Figure(figsize=(3.3 * columns, 2.5 * num_rows), layout="constrained")
    axes = figure.subplots(num_rows, columns, squeeze=False).flat
    for axis, key in zip(axes, keys, strict=False):
        dimension = study.space.dimensions[key]
        having = [trial for trial in done if key in trial.params]
        for own, colour in ((False, OTHERS), (True, OWN)):
            shown_here = [trial for trial in having if (trial.number in leading) == own]
            places = [_place(dimension, trial.params[key]) for trial in shown_here]
            axis.plot(places, [t.values[place] for t in shown_here], "o", color=colour, markersize=5)
        if isinstance(dimension, Choice):
            axis.set_xticks(range(len(dimension.values)), [shown.figure(v[:18]) for v in dimension.values])
        elif dimension.log:
            axis.set_xscale("log")
        axis.set_title(label(key), fontsize=9 if len(key) < 30 else 7)
        _tidy(axis)
    for axis in figure.axes[len(keys) :]:
        axis.set_visible(False)
    save(figure, path)


def _place(dimension: Dimension, value: Any) -> Any:
    return dimension.values.index(value) if isinstance(dimension, Choice) else value


def _front(study: Study, done: Sequence[Any], leading: set[int], path: Path) -> None:
    first, second = study.settings.objective[:2]
    figure = Figure(figsize=(4.4, 3.4), layout="constrained")
    axis = figure.subplots()
    for trial in sorted(done, key=lambda trial: trial.number in leading):
        colour = OWN if trial.number in leading else OTHERS
        axis.plot([trial.values[0]], [trial.values[1]], "o", color=colour, markersize=5)
        if trial.number in leading:
            axis.annotate(
                str(trial.number), trial.values[:2], fontsize=7, xytext=(4, 3), textcoords="offset points"
            )
    axis.set_xlabel(METRICS[first].label, fontsize=8)
    axis.set_ylabel(METRICS[second].label, fontsize=8)
    _tidy(axis)
    save(figure, path)


def _tidy(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(which="both", labelsize=7)
    axis.grid(alpha=0.3)
