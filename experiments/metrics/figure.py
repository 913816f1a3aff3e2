"""The figure of the experiment: a row for each fault, a column for each metric, the level to the right."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure, SubFigure
from PIL import Image
from verdicts import ARROWS, BROKEN, ENDS, HELD

from fdlab.files import whole
from fdlab.metrics.registry import METRICS

COLUMNS = {
    "people_single": (
        "identity_similarity", "identity_heldout", "identity_auc", "copy_paste", "prompt_accuracy",
        "clip_score", "frechet_distance", "kernel_distance", "cmmd", "diversity",
    ),
    "people_multi": (
        "identity_similarity", "identity_similarity_min", "identity_blending", "identity_auc",
        "face_detection_rate", "face_count_accuracy", "prompt_accuracy", "clip_score", "frechet_distance",
        "cmmd",
    ),
}  # fmt: skip
COLOURS = {HELD: "#15803d", ENDS: "#d97706", BROKEN: "#dc2626", None: "#9ca3af"}
TITLES = {"people_single": "One person a picture", "people_multi": "Two people a picture"}


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Draw every world below the other."""
    worlds = results["worlds"]
    heights = [len(world["faults"]) + 0.7 for world in worlds.values()]
    figure = Figure(figsize=(15, 1.02 * sum(heights)), layout="constrained")
    parts = figure.subfigures(len(worlds), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, (name, world) in zip(parts, worlds.items(), strict=True):
        num = world["benchmark"]["pictures"]
        part.suptitle(
            f"{TITLES[name]}, {num} pictures a level. Arrow: where a metric must go (= nowhere, ≤ not up). "
            "Green: it did. Orange: only from first to last level. Red: it did not. Grey: nothing expected.",
            fontsize=9, x=0.01, ha="left",
        )  # fmt: skip
        _world(part, world["faults"], COLUMNS[name])
    with whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, facecolor="white")
        # A palette makes it a third as large; coverage, so that rare colours stay what they are.
        with Image.open(temporary) as drawn:
            palette = drawn.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
        palette.save(temporary, format="PNG", optimize=True)


def _world(part: SubFigure, faults: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    axes = part.subplots(len(faults), len(columns), squeeze=False, sharey="col")
    for row, fault in zip(axes, faults, strict=True):
        ticks = ["0", *(f"{level:g}" for level in fault["levels"][1:])]
        for axis, name in zip(row, columns, strict=True):
            levels = fault["metrics"][name]
            values = [level["value"] for level in levels]
            colour = COLOURS[fault["verdicts"].get(name)]
            place = np.arange(len(values))
            bounds = [(level.get("ci_low"), level.get("ci_high")) for level in levels]
            bounds = [(v, v) if None in ends else ends for v, ends in zip(values, bounds, strict=True)]
            axis.fill_between(place, *np.transpose(bounds), color=colour, alpha=0.15, linewidth=0)
            axis.plot(place, values, color=colour, marker="o", markersize=3, linewidth=1.4)
            axis.axhline(values[0], color="0.8", linewidth=0.6, zorder=0)
            axis.set_xticks(range(len(ticks)), ticks, fontsize=6)
            axis.set_xlim(-0.3, len(ticks) - 0.7)
            axis.tick_params(axis="y", labelsize=6, length=2)
            axis.tick_params(axis="x", length=2, pad=1)
            if name in fault["expected"]:
                arrow = ARROWS[fault["expected"][name]]
                axis.text(1.0, 1.0, arrow, transform=axis.transAxes, ha="center", fontsize=9, color=colour)
            for side in ("top", "right"):
                axis.spines[side].set_visible(False)
        label = f"{fault['name']}\n{fault['unit']}"
        row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8, labelpad=8)
    for axis, name in zip(axes[0], columns, strict=True):
        axis.set_title(METRICS[name].label if name in METRICS else name, fontsize=9)
