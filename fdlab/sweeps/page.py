"""search.html: one page of a search, written anew after every trial; no script, no external file."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fdlab import escape as shown
from fdlab.files import write_text
from fdlab.metrics.registry import METRICS
from fdlab.records.figures import OTHERS, OWN, save
from fdlab.records.report import STYLE, inline
from fdlab.sweeps import results
from fdlab.sweeps.space import Choice
from fdlab.sweeps.study import INTERVALS, Study

PAGE = "search.html"
COLUMNS = 3


def write(study: Study) -> Path:
    """Write the page and its figures into the search's folder; returns the page's path."""
    trials = study.trials()
    done = [trial for trial in trials if trial.values]
    header, rows = results.table(study)
    body = [
        f"<h1>{escape(study.folder.name)}</h1>",
        *(f'<p class="dim">{escape(line)}</p>' for line in results.summary(study)),
    ]
    if done:
        leading = {trial.number for trial in results.best(study)}
        body += [inline(caption, path) for caption, path in _figures(study, done, leading)]
        rows = [["★ " + row[0] if int(row[0]) in leading else row[0], *row[1:]] for row in rows]
    body += ["<h2>trials</h2>", _table(header, rows)]
    body += ["<h2>searched</h2>", f"<pre>{escape(_asked(study))}</pre>"]
    path = study.folder / PAGE
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(study.folder.name)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
        f"<main>{''.join(body)}</main></html>\n"
    )
    write_text(path, text)
    return path


def _figures(study: Study, done: Sequence[Any], leading: set[int]) -> list[tuple[str, Path]]:
    made = []
    for place, name in enumerate(study.settings.objective):
        history, slices = study.folder / f"history-{name}.png", study.folder / f"slices-{name}.png"
        _history(study, done, place, history)
        _slices(study, done, place, leading, slices)
        made += [(f"{METRICS[name].label}: every trial, and the best so far", history)]
        made += [(f"{METRICS[name].label} by what was varied", slices)]
    if len(study.settings.objective) > 1:
        front = study.folder / "front.png"
        _front(study, done, leading, front)
        made.insert(0, ("those that none beats in all", front))
    return made


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


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = ["".join(f"<td>{escape(shown.visible(cell))}</td>" for cell in row) for row in rows]
    inside = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{inside}</tbody></table></div>'


def _asked(study: Study) -> str:
    lines = [f"{key}: {words}" for key, words in study.space.described().items()]
    fixed = " ".join(study.space.fixed)
    return "\n".join([*lines, "", f"every trial: fdlab {study.space.verb} {fixed}".rstrip()])
