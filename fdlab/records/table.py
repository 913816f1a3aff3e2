"""The table of an evaluation, one row a method: in the terminal, as Markdown, and as cells for other
pages."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fdlab import escape
from fdlab.metrics import registry
from fdlab.metrics.registry import METRICS
from fdlab.records.record import MODELS

ABSENT = "-"
_FOLDER = re.compile(r"(?<![^\s(])~?(?:/[^\s/,;()<>]+){2,}/?")
"""A whole path of two parts or more in a label."""

NOTE = (
    "Brackets: 95 % interval, subjects resampled (distances: one subject left out at a time). "
    "A subject without a face counts 0 in identity, as chance in AUC and as wrong in rank-1."
)


def note(records: Sequence[Mapping[str, Any]], taught: bool = True) -> str:
    """What a reader has to know of the numbers; a warning where there are too few pictures for a metric.
    `taught` False leaves out who measured its own pupils, where rows are marked with that."""
    least: dict[Callable[[int], str], int] = {}
    for record in records:
        for name, entry in record["metrics"].items():
            caution = METRICS[name].caution
            if caution is not None:
                least[caution] = min(entry["n"], least.get(caution, entry["n"]))
    cautions = [caution(num) for caution, num in least.items()]
    taught_by = pupils(records) if taught else []
    return " ".join(text for text in (NOTE, *cautions, *taught_by) if text)


def pupils(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for every recogniser that measured what it had taught."""
    pairs: dict[str, dict[str, None]] = {}
    for record in records:
        for name in teachers(record):
            pairs.setdefault(name, {})[label(record)] = None
    return [
        f"{name} taught {', '.join(labels)}: of these it is no independent judge."
        for name, labels in sorted(pairs.items())
    ]


def teachers(record: Mapping[str, Any]) -> list[str]:
    """Recognisers that taught a record's weights and measured it as well, in lower case."""
    method = record.get("method", {})
    models = [method[kind] for kind in MODELS if isinstance(method.get(kind), dict)]
    lists = [model["taught_by"] for model in models if isinstance(model.get("taught_by"), list)]
    taught = {_parts(str(name))[-1] for names in lists for name in names}
    measured = {str(entry["extractor"]["name"]) for entry in record["metrics"].values() if taught}
    return sorted(taught & {part for name in measured for part in _parts(name)})


def _parts(name: str) -> list[str]:
    """The networks of an extractor, which is called by its detector and its recogniser:
    mtcnn+faceres_centered."""
    return [part.partition("_")[0].strip() for part in name.casefold().split("+")]


def label(record: Mapping[str, Any]) -> str:
    """A record as a person names it; of a folder on somebody's machine no more than a name."""
    said = str(record["method"].get("label") or record["method"]["name"])
    return _FOLDER.sub(lambda found: _ends(found[0]), said)


def _ends(folder: str) -> str:
    """The last two parts of a folder's path, without the `model` that every run has."""
    parts = [part for part in folder.split("/") if part]
    named = parts[:-1] if parts[-1:] == ["model"] else parts
    return "/".join(named[-2:])


def steps(record: Mapping[str, Any]) -> str:
    """How many training steps stand behind a record."""
    return str(record["method"].get("training_steps") or ABSENT)


def columns(records: Sequence[Mapping[str, Any]], wanted: Sequence[str] | None = None) -> list[str]:
    """The wanted metrics (None: those of the short table) that at least one record has, in the order
    wanted."""
    wanted = registry.short() if wanted is None else wanted
    return [name for name in wanted if any(name in record["metrics"] for record in records)]


def value(entry: Mapping[str, Any] | None, name: str) -> str:
    """A number as the tables print it."""
    return ABSENT if entry is None else f"{entry['value']:.{METRICS[name].decimals}f}"


def interval(entry: Mapping[str, Any] | None, name: str) -> str:
    """An interval as the tables print it, empty where there is none."""
    if entry is None or entry["ci_low"] is None or entry["ci_high"] is None:
        return ""
    decimals = min(METRICS[name].decimals, 2)
    return f"[{entry['ci_low']:.{decimals}f}, {entry['ci_high']:.{decimals}f}]"


def heading(name: str) -> str:
    """A column's heading with its direction."""
    return f"{METRICS[name].label} {'↑' if METRICS[name].higher_is_better else '↓'}"


def markdown(records: Sequence[Mapping[str, Any]], wanted: Sequence[str] | None = None) -> str:
    """The table in Markdown."""
    names = columns(records, wanted)
    lines = [
        "| method | training steps | " + " | ".join(heading(name) for name in names) + " |",
        "|---|---:|" + "---:|" * len(names),
    ]
    for record in records:
        entries = [(record["metrics"].get(name), name) for name in names]
        cells = [f"{value(entry, name)} {interval(entry, name)}".strip() for entry, name in entries]
        first, second = escape.markdown(label(record)), escape.markdown(steps(record))
        lines.append(f"| {first} | {second} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def terminal(
    records: Sequence[Mapping[str, Any]], title: str = "", wanted: Sequence[str] | None = None
) -> Any:
    """The table as a rich renderable; intervals stand below the numbers."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    names = columns(records, wanted)
    table = Table(
        title=escape.terminal(title, style="table.title") if title else None,
        box=box.SIMPLE_HEAD,
        caption=escape.terminal(note(records), style="table.caption"),
        caption_justify="left",
    )
    table.add_column("method")
    table.add_column("training steps", justify="right")
    for name in names:
        table.add_column(heading(name), justify="right")
    for record in records:
        cells = []
        for name in names:
            entry = record["metrics"].get(name)
            below = interval(entry, name)
            cells.append(Text.assemble(value(entry, name), (f"\n{below}" if below else "", "dim")))
        table.add_row(escape.terminal(label(record)), escape.terminal(steps(record)), *cells)
    return table


def show(records: Sequence[Mapping[str, Any]], title: str = "", wanted: Sequence[str] | None = None) -> None:
    """Print the table; as Markdown where the output is no terminal."""
    import sys

    from rich.console import Console

    if sys.stdout.isatty():
        Console().print(terminal(records, title, wanted))
    else:
        head = f"{escape.markdown(title)}\n\n" if title else ""
        print(f"{head}{markdown(records, wanted)}\n{note(records)}")
