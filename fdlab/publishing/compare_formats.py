"""A comparison of two records as Markdown, JSON, CSV, or a table in the terminal."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

from fdlab import escape
from fdlab.leaderboard.collect import Entry
from fdlab.leaderboard.compare import Comparison, Line, as_dict
from fdlab.metrics.bootstrap import Estimate
from fdlab.metrics.registry import METRICS
from fdlab.records import table

HEAD = ("metric", "A", "B", "B - A", "B better in", "pairs", "better", "p, corrected")

COLUMNS = (
    "metric", "a", "b", "difference", "ci_low", "ci_high", "superiority", "superiority_low",
    "superiority_high", "n", "num_subjects", "higher_is_better", "better", "p", "p_corrected",
)  # fmt: skip

NOTE = (
    "A and B over the pairs that have a value in both. Brackets: 95 % intervals of paired differences, "
    "subjects resampled for both at once. "
    "'B better in': share of pairs, a tie counts half. 'p, corrected' takes account of the number of metrics "
    "(Holm). 'better' names a method where it is under 0.05 and the interval leaves out 0."
)


def title(made: Comparison) -> str:
    """Which benchmark both were measured on."""
    about = made.a.record["benchmark"]
    size = f"the same {made.num_pictures} pictures, {made.num_subjects} subjects"
    return f"{about['name']} v{about['version']}, {size}"


def markdown(made: Comparison) -> str:
    """The comparison in Markdown."""
    a, b = (escape.markdown(_named(entry)) for entry in (made.a, made.b))
    lines = [f"## {escape.markdown(title(made))}\n", f"A: {a}  ", f"B: {b}\n"]
    lines += ["| " + " | ".join(HEAD) + " |", "|---|" + "---:|" * (len(HEAD) - 1)]
    corrected = made.corrected
    for line in made.lines:
        lines.append(
            "| "
            + " | ".join(
                " ".join(cell.split("\n")).strip()
                for cell in _cells(line, corrected, made.better[line.metric])
            )
            + " |"
        )
    return "\n".join([*lines, "", NOTE, *_left_out(made)]) + "\n"


def as_json(made: Comparison) -> str:
    """The comparison as JSON, see `compare.as_dict`."""
    return json.dumps(as_dict(made), indent=2, allow_nan=False) + "\n"


def as_csv(made: Comparison) -> str:
    """One line a metric."""
    out = io.StringIO()
    writer = escape.CsvWriter(out)
    writer.writerow(COLUMNS)
    corrected = made.corrected
    for line in made.lines:
        gain, won = line.difference, line.superiority
        writer.writerow([
            line.metric, line.a, line.b, gain.value, gain.low, gain.high,
            *((won.value, won.low, won.high) if won else ("", "", "")),
            gain.num, line.num_subjects, METRICS[line.metric].higher_is_better, made.better[line.metric],
            line.chance,
            corrected.get(line.metric),
        ])  # fmt: skip
    return out.getvalue()


def terminal(made: Comparison) -> Any:
    """The comparison as a rich renderable; intervals stand below the numbers."""
    from rich import box
    from rich.console import Group
    from rich.table import Table

    shown = Table(
        title=escape.terminal(title(made), style="table.title"),
        box=box.SIMPLE_HEAD,
        caption=NOTE,
        caption_justify="left",
    )
    for name in HEAD:
        shown.add_column(name, justify="left" if name == "metric" else "right")
    corrected = made.corrected
    for line in made.lines:
        shown.add_row(
            *(
                escape.terminal(*cell.split("\n"))
                for cell in _cells(line, corrected, made.better[line.metric])
            )
        )
    about = [escape.terminal(f"{side}: {_named(entry)}") for side, entry in (("A", made.a), ("B", made.b))]
    return Group(*about, shown, *(escape.terminal(text) for text in _left_out(made)))


def show(made: Comparison) -> None:
    """Print the comparison to the terminal."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a pipe has no width of its own
    console.print(terminal(made))


def _named(entry: Entry) -> str:
    return f"{table.label(entry.record)} ({entry.path})"


def _cells(line: Line, corrected: Mapping[str, float], better: str) -> list[str]:
    decimals = METRICS[line.metric].decimals
    won = line.superiority
    difference = f"{line.difference.value:+.{decimals}f}"
    return [
        table.heading(line.metric),
        f"{line.a:.{decimals}f}",
        f"{line.b:.{decimals}f}",
        f"{difference}\n{_interval(line.difference, decimals, '+')}".strip(),
        f"{won.value:.3f}\n{_interval(won, 2)}".strip() if won else table.ABSENT,
        f"{line.difference.num}",
        better or table.ABSENT,
        _chance(corrected[line.metric]) if line.metric in corrected else table.ABSENT,
    ]


def _chance(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _interval(estimate: Estimate, decimals: int, sign: str = "") -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f"[{estimate.low:{sign}.{decimals}f}, {estimate.high:{sign}.{decimals}f}]"


def _left_out(made: Comparison) -> list[str]:
    if not made.left_out:
        return []
    reasons: dict[str, list[str]] = {}
    for name, why in made.left_out.items():
        reasons.setdefault(why, []).append(name)
    return [
        "Not compared: " + "; ".join(f"{', '.join(names)} ({why})" for why, names in reasons.items()) + "."
    ]
