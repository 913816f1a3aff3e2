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
from fdlab.sweeps.space import Choice
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
            _parallel(study, done, place, leading, lines)
            made += [(f"a line a trial, darker with a better {METRICS[name].label}; the best in blue", lines)]
        if (shares := importance(study, place)) is not None:
            bars = study.folder / f"importance-{name}.png"
            _importance(shares, bars)
            made += [(f"share of the differences in {METRICS[name].label} that a key explains", bars)]
    if len(study.settings.objective) > 1:
        front = study.folder / "front.png"
        _front(study, done, leading, front)
        made.insert(0, ("those that none beats in all", front))
    return made


def importance(study: Study, place: int) -> dict[str, float] | None:
    """Each key's share of what tells good trials from the others (PED-ANOVA, Watanabe et al. 2023), largest
    first; None where trials are too few, or all alike."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState

    trials = study.optuna.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    if len(trials) < FEWEST or len({trial.values[place] for trial in trials}) < 2:
        return None
    varied = [key for key in study.space.dimensions if len({trial.params[key] for trial in trials}) > 1]
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


def _parallel(study: Study, done: Sequence[Any], place: int, leading: set[int], path: Path) -> None:
    keys = list(study.space.dimensions)
    columns = [*(_heights(study, key, done) for key in keys), _scaled([t.values[place] for t in done])]
    figure = Figure(figsize=(1.6 * len(columns) + 1.2, 3.2), layout="constrained")
    axis = figure.subplots()
    upwards = study.settings.directions[place] == "maximize"
    heights = np.array(columns).T
    for trial, line in sorted(zip(done, heights, strict=True), key=lambda pair: pair[0].number in leading):
        own = trial.number in leading
        share = line[-1] if upwards else 1 - line[-1]
        axis.plot(
            line, color=OWN if own else "black", alpha=1.0 if own else 0.08 + 0.5 * share, linewidth=1.2
        )
    ends = [_ends(study, key, done) for key in keys]
    ends.append((f"{min(t.values[place] for t in done):.3g}", f"{max(t.values[place] for t in done):.3g}"))
    for column, (low, high) in enumerate(ends):
        axis.axvline(column, color=OTHERS, linewidth=0.8)
        for height, text, side in ((-0.04, low, "top"), (1.04, high, "bottom")):
            axis.text(column, height, shown.figure(text[:18]), ha="center", va=side, fontsize=7)
    names = [*keys, METRICS[study.settings.objective[place]].label]
    axis.set_xticks(range(len(names)), [shown.figure(name) for name in names], fontsize=7)
    axis.tick_params(axis="x", length=0, pad=12)
    axis.set_yticks([])
    axis.set_ylim(-0.02, 1.02)
    axis.spines[["top", "right", "left", "bottom"]].set_visible(False)
    save(figure, path)


def _heights(study: Study, key: str, done: Sequence[Any]) -> list[float]:
    """Where each trial's value stands between the ends of a key, 0 to 1."""
    dimension = study.space.dimensions[key]
    if isinstance(dimension, Choice):
        last = max(1, len(dimension.values) - 1)
        return [dimension.values.index(trial.params[key]) / last for trial in done]
    low, high = dimension.low, dimension.high
    values = np.array([float(trial.params[key]) for trial in done])
    if dimension.log:
        return list(np.log(values / low) / np.log(high / low))
    return list((values - low) / (high - low))


def _ends(study: Study, key: str, done: Sequence[Any]) -> tuple[str, str]:
    dimension = study.space.dimensions[key]
    if isinstance(dimension, Choice):
        return dimension.values[0], dimension.values[-1]
    return f"{dimension.low:g}", f"{dimension.high:g}"


def _scaled(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    return [(value - low) / (high - low) if high > low else 0.5 for value in values]


def _history(study: Study, done: Sequence[Any], place: int, path: Path) -> None:
    name, upwards = study.settings.objective[place], study.settings.directions[place] == "maximize"
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    axis = figure.subplots()
    best: list[float] = []
    for trial in done:
        value = trial.values[place]
        low, high = trial.user_attrs.get(INTERVALS, {}).get(name, (None, None))
        if low is not None and high is not None:
            axis.plot([trial.number] * 2, [low, high], color=OTHERS, linewidth=1)
        axis.plot([trial.number], [value], "o", color=OTHERS, markersize=4)
        best.append(value if not best else (max if upwards else min)(best[-1], value))
    axis.step([trial.number for trial in done], best, where="post", color=OWN, linewidth=1.6)
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
        for trial in done:
            where = trial.params[key]
            if isinstance(dimension, Choice):
                where = dimension.values.index(where)
            colour = OWN if trial.number in leading else OTHERS
            axis.plot([where], [trial.values[place]], "o", color=colour, markersize=5)
        if isinstance(dimension, Choice):
            axis.set_xticks(range(len(dimension.values)), [shown.figure(v[:18]) for v in dimension.values])
        elif dimension.log:
            axis.set_xscale("log")
        axis.set_title(shown.figure(key), fontsize=9)
        _tidy(axis)
    for axis in figure.axes[len(keys) :]:
        axis.set_visible(False)
    save(figure, path)


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
