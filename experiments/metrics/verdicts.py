"""Did a metric move as it must? One verdict for each metric of each fault, and the tables that say so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from faults import DOWN, NOT_UP, SAME, UP, Fault

HELD, ENDS, BROKEN = "held", "ends only", "broken"
EXACT = 1e-9
MARKS = {HELD: "yes", ENDS: "ends only", BROKEN: "**no**"}
ARROWS = {UP: "↑", DOWN: "↓", SAME: "=", NOT_UP: "≤"}


def verdict(direction: str, levels: Sequence[Mapping[str, Any]], exact: bool = False) -> str:
    """HELD: moved at every level (up, down), or never left the interval of no fault (same, not up). ENDS:
    moved from first to last, but not at every level. BROKEN otherwise."""
    values = [level["value"] for level in levels]
    if direction in (UP, DOWN):
        signed = values if direction == UP else [-value for value in values]
        steps = [after - before for before, after in pairwise(signed)]
        if all(step > 0 for step in steps):
            return HELD
        return ENDS if signed[-1] > signed[0] else BROKEN
    low, high = (levels[0].get(key) for key in ("ci_low", "ci_high"))
    if exact or low is None:
        low = high = values[0]
    if direction == NOT_UP:
        low = min(values)
    return HELD if all(low - EXACT <= value <= high + EXACT for value in values) else BROKEN


def seen_at(levels: Sequence[Mapping[str, Any]], names: Sequence[float]) -> str:
    """The first level whose value lies outside the interval of no fault; a dash where none does."""
    low, high = (levels[0].get(key) for key in ("ci_low", "ci_high"))
    if low is None or high is None:
        return ""
    out = (
        f"{name:g}" for name, level in zip(names, levels, strict=False) if not low <= level["value"] <= high
    )
    return next(out, "-")


def entry(fault: Fault, levels: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """A fault as results.json holds it: metric by metric its levels, and what was expected and seen."""
    # A metric that no picture gives a value (no face anywhere) ends with the level before.
    metrics = {name: [level[name] for level in levels if name in level] for name in levels[0]}
    return {
        "name": fault.name,
        "unit": fault.unit,
        "levels": [0, *fault.levels],
        "metrics": metrics,
        "expected": fault.expected,
        "verdicts": {
            name: verdict(direction, metrics[name], name in fault.exact)
            for name, direction in fault.expected.items()
        },
    }


def tables(results: Mapping[str, Any]) -> str:
    """Markdown: one table a benchmark, a row for each fault and metric with an expectation."""
    lines = []
    for world in results["worlds"].values():
        bench = world["benchmark"]
        lines += [
            "", f"{bench['name']}: {bench['num_subjects']} people, {bench['pictures']} pictures a level",
            "", "| fault, levels | metric | must | none | levels | seen at | order |",
            "|---|---|:-:|--:|---|--:|:-:|",
        ]  # fmt: skip
        for fault in world["faults"]:
            shown = " / ".join(f"{level:g}" for level in fault["levels"][1:])
            head = f"{fault['name']}: {fault['unit']} {shown}"
            for name, direction in fault["expected"].items():
                values = [_short(level["value"]) for level in fault["metrics"][name]]
                mark = MARKS[fault["verdicts"][name]]
                seen = seen_at(fault["metrics"][name], fault["levels"])
                cells = (head, name, ARROWS[direction], values[0], " / ".join(values[1:]), seen, mark)
                lines.append(f"| {' | '.join(cells)} |")
                head = ""
    return "\n".join(lines)


def _short(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
