"""Parallel coordinates: a line a trial, through the values of everything that was varied."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from fdlab import escape as shown
from fdlab.metrics.registry import METRICS
from fdlab.records.figures import OTHERS, OWN, save
from fdlab.sweeps.dimensions import Choice
from fdlab.sweeps.space import IF
from fdlab.sweeps.study import Study

ABSENT = -0.25
"""Height of a value that a trial has not, where those of the others are 0 to 1."""


def draw_parallel(study: Study, done: Sequence[Any], place: int, leading: set[int], path: Path) -> None:
    """Draw a line a trial through the values that it has."""
    keys = list(study.space.dimensions)
    columns = [*(_heights(study, key, done) for key in keys), _scaled([t.values[place] for t in done])]
    figure = Figure(figsize=(1.6 * len(columns) + 1.2, 3.2), layout="constrained")
    axis = figure.subplots()
    upwards = study.settings.directions[place] == "maximize"
    heights = np.array(columns).T
    # The leading ones last, above the others.
    order = sorted(range(len(done)), key=lambda k: done[k].number in leading)
    lines, colours = [], []
    for k in order:
        own, share = done[k].number in leading, heights[k, -1] if upwards else 1 - heights[k, -1]
        lines.append(list(enumerate(heights[k])))
        colours.append(to_rgba(OWN) if own else to_rgba("black", 0.08 + 0.5 * share))
    axis.add_collection(LineCollection(lines, colors=colours, linewidths=1.2))
    axis.set_xlim(-0.15, len(columns) - 0.85)
    ends = [_ends(study, key, done) for key in keys]
    ends.append((f"{min(t.values[place] for t in done):.3g}", f"{max(t.values[place] for t in done):.3g}"))
    for column, (low, high) in enumerate(ends):
        axis.axvline(column, color=OTHERS, linewidth=0.8)
        marks = [(-0.04, low, "top"), (1.04, high, "bottom")]
        if keys[column : column + 1] and keys[column] in study.space.conditions:
            marks.append((ABSENT - 0.03, "none", "top"))
        for height, text, side in marks:
            axis.text(column, height, shown.figure(text[:18]), ha="center", va=side, fontsize=7)
    names = [*keys, METRICS[study.settings.objective[place]].label]
    axis.set_xticks(range(len(names)), [label(name) for name in names], fontsize=7)
    axis.tick_params(axis="x", length=0, pad=12)
    axis.set_yticks([])
    axis.set_ylim(ABSENT - 0.02 if study.space.conditions else -0.02, 1.02)
    axis.spines[["top", "right", "left", "bottom"]].set_visible(False)
    save(figure, path)


def _heights(study: Study, key: str, done: Sequence[Any]) -> list[float]:
    """Where each trial's value stands between the ends of a key, 0 to 1; below where it does not exist."""
    dimension = study.space.dimensions[key]

    def height(value: Any) -> float:
        if isinstance(dimension, Choice):
            return dimension.values.index(value) / max(1, len(dimension.values) - 1)
        low, high, number = dimension.low, dimension.high, float(value)
        if dimension.log:
            return math.log(number / low) / math.log(high / low)
        return (number - low) / (high - low)

    return [height(trial.params[key]) if key in trial.params else ABSENT for trial in done]


def _ends(study: Study, key: str, done: Sequence[Any]) -> tuple[str, str]:
    dimension = study.space.dimensions[key]
    if isinstance(dimension, Choice):
        return dimension.values[0], dimension.values[-1]
    return f"{dimension.low:g}", f"{dimension.high:g}"


def _scaled(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    return [(value - low) / (high - low) if high > low else 0.5 for value in values]


def label(name: str) -> str:
    """A dimension's name, its condition on a line of its own."""
    return "\n".join(map(shown.figure, name.replace(IF, f"\n{IF.strip()} ").split("\n")))
