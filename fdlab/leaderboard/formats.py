"""A leaderboard as Markdown, JSON, CSV, or tables in the terminal."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Sequence
from typing import Any

from fdlab import escape
from fdlab.config.schema import leaves
from fdlab.leaderboard.collect import Entry, Group
from fdlab.leaderboard.published import Quoted
from fdlab.metrics import registry
from fdlab.metrics.registry import METRICS
from fdlab.records import table


def named(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Records whose labels also tell their run, as several runs share a table, whether they are quoted, and
    in which settings they differ from others that would be called the same."""
    labels = [_with_run(entry) for entry in entries]
    alike = {
        label: [entry for entry, other in zip(entries, labels, strict=True) if other == label]
        for label in labels
    }
    full = [_with_settings(entry, label, alike[label]) for entry, label in zip(entries, labels, strict=True)]
    return [
        {**entry.record, "method": {**entry.record["method"], "label": label}}
        for entry, label in zip(entries, full, strict=True)
    ]


def _with_run(entry: Entry) -> str:
    kind = entry.record["provenance"]["kind"]
    run = entry.run if kind == "measured" else f"{entry.run}, {kind}"
    return f"{table.label(entry.record)} ({run})"


def _with_settings(entry: Entry, label: str, alike: Sequence[Entry]) -> str:
    """A label with the settings in which its method differs from others of that label."""
    own = dict(leaves(entry.record["method"]))
    others = [dict(leaves(other.record["method"])) for other in alike]
    named = ("name", "label")
    differing = [
        key for key in own if key not in named and any(other.get(key) != own[key] for other in others)
    ]
    said = ", ".join(f"{key.rpartition('.')[2]}={str(own[key])[:12]}" for key in differing)
    return f"{label}: {said}" if said else label


def shown(group: Group) -> list[str]:
    """A group's columns where room is scarce: those of the short table and the one that orders, or all."""
    records = [entry.record for entry in group.entries]
    names = table.columns(records) or table.columns(records, registry.whole())
    return names if group.ordered_by in ("", *names) else [*names, group.ordered_by]


def heading(group: Group) -> str:
    """A group's title and what orders it."""
    by = f", best {METRICS[group.ordered_by].label} first" if group.ordered_by else ""
    return f"{group.title}{by}"


def beside(groups: Sequence[Group], quoted: Sequence[Quoted]) -> list[tuple[Group | None, list[Quoted]]]:
    """Every group with the quoted tables that follow its protocol; the other quoted ones come last, with
    None."""
    placed = [(group, [q for q in quoted if q.follows(group.benchmark)]) for group in groups]
    seen = {q.id for _, found in placed for q in found}
    return [*placed, (None, [q for q in quoted if q.id not in seen])]


def markdown(groups: Sequence[Group], quoted: Sequence[Quoted]) -> str:
    """All tables in Markdown."""
    parts = []
    for group, others in beside(groups, quoted):
        if group is not None:
            parts.append(f"## {escape.markdown(heading(group))}\n")
            parts.append(table.markdown(named(group.entries), registry.whole()))
            parts.append(table.note([entry.record for entry in group.entries]) + "\n")
        parts += [_quoted_markdown(entry) for entry in others]
    return "\n".join(parts)


def as_json(groups: Sequence[Group], quoted: Sequence[Quoted]) -> str:
    """{"measured": [{benchmark, ordered_by, records}], "quoted": [...]}."""
    measured = [
        {
            "benchmark": group.benchmark,
            "ordered_by": group.ordered_by or None,
            "records": [{"path": str(e.path), "run": e.run, **e.record} for e in group.entries],
        }
        for group in groups
    ]
    others = [
        {
            **dataclasses.asdict(q),
            "kind": "quoted",
            "same_protocol": [g.benchmark["sha256"] for g in groups if q.follows(g.benchmark)],
        }
        for q in quoted
    ]
    return json.dumps({"measured": measured, "quoted": others}, indent=2, allow_nan=False) + "\n"


def as_csv(groups: Sequence[Group], quoted: Sequence[Quoted]) -> str:
    """One line a number: group, rank, method, run, kind, metric, value, interval, n, version, extractor,
    source."""
    out = io.StringIO()
    writer = escape.CsvWriter(out)
    writer.writerow(
        [
            "group",
            "benchmark_sha256",
            "rank",
            "method",
            "run",
            "training_steps",
            "kind",
            "metric",
            "value",
            "ci_low",
            "ci_high",
            "n",
            "version",
            "extractor",
            "source",
        ]
    )
    for group in groups:
        for rank, entry in enumerate(group.entries, 1):
            record = entry.record
            for name, m in record["metrics"].items():
                writer.writerow([
                    group.benchmark["name"], group.benchmark["sha256"], rank, table.label(record), entry.run,
                    table.steps(record), record["provenance"]["kind"], name, m["value"], m["ci_low"],
                    m["ci_high"],
                    m["n"], m["version"], m["extractor"]["name"], entry.path,
                ])  # fmt: skip
    for q in quoted:
        for rank, row in enumerate(q.rows, 1):
            for key in q.columns:
                if key in row:
                    writer.writerow([
                        q.id, "", rank, row["method"], "", "", "quoted", q.columns[key]["name"], row[key], "",
                        "", "", "", "", row["source"],
                    ])  # fmt: skip
    return out.getvalue()


def show(groups: Sequence[Group], quoted: Sequence[Quoted]) -> None:
    """Print tables to the terminal."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a pipe has no width of its own
    for group, others in beside(groups, quoted):
        if group is not None:
            records = named(group.entries)
            console.print(table.terminal(records, heading(group), shown(group)))
        for entry in others:
            console.print(_quoted_terminal(entry))


def _quoted_terminal(entry: Quoted) -> Any:
    from rich import box
    from rich.table import Table

    head, rows = _quoted_table(entry)
    made = Table(
        title=escape.terminal(f"QUOTED, not measured here: {entry.title}", style="table.title"),
        caption=escape.terminal(*entry.notes, style="table.caption"),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for i, name in enumerate(head):
        last = i == len(head) - 1
        numbers = i > 0 and not last
        made.add_column(escape.terminal(name), justify="right" if numbers else "left", style="dim" * last)
    for row in rows:
        made.add_row(*(escape.terminal(cell) for cell in row))
    return made


def _quoted_markdown(entry: Quoted) -> str:
    head, rows = _quoted_table(entry)
    notes = escape.markdown(". ".join(entry.notes))
    lines = [f"## Quoted: {escape.markdown(entry.title)}\n", f"Not measured here. {notes}\n"]
    lines += [
        "| " + " | ".join(escape.markdown(name) for name in head) + " |",
        "|---|" + "---:|" * (len(head) - 2) + "---|",
    ]
    lines += ["| " + " | ".join(escape.markdown(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _quoted_table(entry: Quoted) -> tuple[list[str], list[list[str]]]:
    """Headings and cells, best first."""
    with_references = any("references" in row for row in entry.rows)
    arrows = [f"{c['name']} {'↑' if c['higher_is_better'] else '↓'}" for c in entry.columns.values()]
    head = ["method", *["references"] * with_references, *arrows, "source"]
    rows = []
    for row in entry.rows:
        count = [str(row.get("references", table.ABSENT))] * with_references
        cells = [_quoted_cell(row, key, column["unit"]) for key, column in entry.columns.items()]
        rows.append([f"{row['method']} (quoted)", *count, *cells, row["source"]])
    return head, rows


def _quoted_cell(row: dict[str, Any], key: str, unit: str) -> str:
    if key not in row:
        return table.ABSENT
    decimals = 2 if unit == "percent" else 3
    spread = row.get("deviation", {}).get(key)
    return f"{row[key]:.{decimals}f}" + (f" ± {spread:.{decimals}f}" if spread is not None else "")
