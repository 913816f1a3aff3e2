"""Figures of an evaluation, drawn without pyplot (no global state, no display): PNG files, whole or not at
all."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fdlab import escape
from fdlab.data.pictures import read_image
from fdlab.files import whole

OWN, OTHERS, BESIDE = "#2563eb", "#9ca3af", "#d97706"
MAX_LABEL = 44
"""Characters of a method's name in a figure."""
PANELS_A_ROW = 4
"""Of intervals: more would be shrunk beyond reading in a report."""
SKIPPED = ("epoch", "step", "seconds")
"""Columns of metrics.csv that are no curve."""


def image_grid(
    rows: Sequence[tuple[str, Sequence[Path | None]]], columns: Sequence[str], path: Path, title: str = ""
) -> None:
    """Pictures in a grid with a caption for each row and column; None leaves a cell empty."""
    figure = Figure(figsize=(1.35 * len(columns) + 1.2, 1.33 * len(rows) + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for i, (label, pictures) in enumerate(rows):
        for j, picture in enumerate(pictures):
            axis = axes[i][j]
            axis.set_xticks([])
            axis.set_yticks([])
            for spine in axis.spines.values():
                spine.set_visible(False)
            if picture is not None:
                axis.imshow(read_image(picture), interpolation="lanczos")
            if i == 0:
                axis.set_title(escape.figure(_wrapped(columns[j], 20)), fontsize=8)
            if j == 0:
                axis.set_ylabel(
                    escape.figure(_wrapped(label)), fontsize=6, rotation=0, ha="right", va="center"
                )
    if title:
        figure.suptitle(escape.figure(title), fontsize=9)
    save(figure, path)


def similarity_histogram(
    pictures: Sequence[Mapping[str, Any]], subjects: Sequence[str], path: Path, title: str = ""
) -> None:
    """How similar faces are to their own subject's reference, to those beside it in the picture, and to the
    other subjects'; from scored pictures."""
    own: list[float] = []
    beside: list[float] = []
    others: list[float] = []
    for picture in pictures:
        shown = picture.get("subjects", [picture["subject"]])
        for subject, similarities in matched(picture):
            for name, value in zip(subjects, similarities, strict=True):
                (own if name == subject else beside if name in shown else others).append(value)
    figure = Figure(figsize=(4.6, 3.2), layout="constrained")
    axis = figure.subplots()
    if own:
        low, high = min(own + beside + others), max(own + beside + others)
        bins = np.linspace(low, high if high > low else low + 0.01, 31).tolist()
        groups = (
            (others, "other subjects", OTHERS),
            (beside, "beside it in the picture", BESIDE),
            (own, "own subject", OWN),
        )
        for values, name, colour in groups:
            if values:
                weights = np.full(len(values), 1 / len(values))
                axis.hist(
                    values,
                    bins=bins,
                    weights=weights,
                    alpha=0.65,
                    color=colour,
                    label=f"{name} (n={len(values)})",
                )
        # Below the axes: wherever it lay inside, some values' bars would stand behind it.
        figure.legend(loc="outside lower center", fontsize=8, frameon=False, ncols=2)
    else:
        axis.text(0.5, 0.5, "no face found", ha="center", va="center", transform=axis.transAxes)
    axis.set_xlabel("cosine with the reference")
    axis.set_ylabel("share")
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title(escape.figure(title), fontsize=9)
    save(figure, path)


def matched(picture: Mapping[str, Any]) -> list[tuple[str, Sequence[float]]]:
    """The subjects of a scored picture whose face was found, with the face's similarity to every subject."""
    if "matches" not in picture:
        return [(picture["subject"], picture["similarity_to"])] if picture.get("similarity_to") else []
    return [
        (match["subject"], picture["faces"][match["face"]]["similarity_to"])
        for match in picture["matches"]
        if match["face"] is not None
    ]


def intervals(
    records: Sequence[Mapping[str, Any]], names: Sequence[str], labels: Sequence[str], path: Path
) -> None:
    """Every method's value and 95 % interval, one panel a metric, rows of at most `PANELS_A_ROW`."""
    from fdlab.records.table import heading

    lines = -(-len(names) // PANELS_A_ROW)
    # As even as they come: five panels are three and two, not four and one.
    columns = -(-len(names) // lines)
    size = (2.0 * columns + 2.0, (0.3 * len(records) + 0.8) * lines)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True).flatten()
    for axis in panels[len(names) :]:
        axis.set_visible(False)
    for axis, name in zip(panels, names, strict=False):
        for position, record in enumerate(records):
            entry = record["metrics"].get(name)
            if entry is None:
                continue
            if entry["ci_low"] is not None and entry["ci_high"] is not None:
                axis.plot(
                    [entry["ci_low"], entry["ci_high"]], [position, position], color=OTHERS, linewidth=2
                )
            axis.plot([entry["value"]], [position], "o", color=OWN, markersize=5)
        axis.set_title(heading(name), fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
        axis.locator_params(axis="x", nbins=4)
        axis.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(records)), [escape.figure(_short(label)) for label in labels])
    panels[0].invert_yaxis()
    save(figure, path)


def _short(label: str) -> str:
    """A label that leaves room for what it labels: of a long one, as with a folder in it, both ends."""
    half = MAX_LABEL // 2
    return label if len(label) <= MAX_LABEL else f"{label[:half].rstrip()} … {label[-half:].lstrip()}"


def read_curves(metrics_csv: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Curves of a run's metrics.csv: name -> (steps, values); rows without a value are left out."""
    curves: dict[str, tuple[list[float], list[float]]] = {}
    with metrics_csv.open(newline="") as stream:
        for row in csv.DictReader(stream):
            step = _number(row.get("step"))
            if step is None:
                continue
            for name, text in row.items():
                value = _number(text)
                if name and name not in SKIPPED and value is not None:
                    steps, values = curves.setdefault(name, ([], []))
                    steps.append(step)
                    values.append(value)
    return curves


def training_curves(metrics_csv: Path, path: Path) -> bool:
    """Draw every curve of metrics.csv with two points or more; False where there is none."""
    curves = {name: curve for name, curve in read_curves(metrics_csv).items() if len(curve[0]) > 1}
    if not curves:
        return False
    columns = min(3, len(curves))
    num_rows = -(-len(curves) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.3 * num_rows), layout="constrained")
    for axis, (name, (steps, values)) in zip(
        figure.subplots(num_rows, columns, squeeze=False).flat, curves.items(), strict=False
    ):
        axis.plot(steps, values, color=OTHERS, linewidth=0.8)
        window = max(1, len(values) // 20)
        if window > 1:
            smooth = np.convolve(values, np.ones(window) / window, "valid")
            axis.plot(steps[window - 1 :], smooth, color=OWN, linewidth=1.4)
        axis.set_title(escape.figure(name), fontsize=9)
        axis.set_xlabel("step", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in figure.axes[len(curves) :]:
        axis.set_visible(False)
    save(figure, path)
    return True


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130, facecolor="white")


def _number(text: Any) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) else None


def _wrapped(text: str, width: int = 24) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width))
