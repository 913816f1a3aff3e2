"""A leaderboard as Markdown, JSON, CSV, or tables in the terminal."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from fdlab.evaluation import table
from fdlab.evaluation.record import METRICS
from fdlab.leaderboard.collect import Entry, Group
from fdlab.leaderboard.published import Quoted

ALL = (*table.COLUMNS, *(name for name in METRICS if name not in table.COLUMNS))
"""Every metric, those of the short table first."""


def named(entry: Entry) -> dict[str, Any]:
    """A record whose label also tells its run, as several runs share a table."""
    method = entry.record["method"]
    return {**entry.record, "method": {**method, "label": f"{table.label(entry.record)} ({entry.run})"}}


def markdown(groups: Sequence[Group], quoted: Sequence[Quoted]) -> str:
    """All tables in Markdown."""
    parts = []
    for group in groups:
        parts += [f"## {group.title}\n", table.markdown([named(entry) for entry in group.entries], ALL)]
    if groups:
        parts.append(table.NOTE + "\n")
    for entry in quoted:
        names = entry.columns
        parts += [f"## Quoted: {entry.title}\n", f"Not measured here. {entry.protocol}\n"]
        lines = ["| method | " + " | ".join(str(c["name"]) for c in names.values()) + " | source |"]
        lines.append("|---|" + "---:|" * len(names) + "---|")
        for row in entry.rows:
            cells = [_quoted_cell(row, key) for key in names]
            lines.append(f"| {row['method']} (quoted) | " + " | ".join(cells) + f" | {row['source']} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def as_json(groups: Sequence[Group], quoted: Sequence[Quoted]) -> str:
    """{"measured": [{benchmark, records}], "quoted": [...]}."""
    measured = [
        {
            "benchmark": group.benchmark,
            "records": [{"path": str(e.path), "run": e.run, **e.record} for e in group.entries],
        }
        for group in groups
    ]
    others = [
        {
            "id": q.id,
            "title": q.title,
            "protocol": q.protocol,
            "columns": q.columns,
            "rows": q.rows,
            "kind": "quoted",
        }
        for q in quoted
    ]
    return json.dumps({"measured": measured, "quoted": others}, indent=2, allow_nan=False) + "\n"


def as_csv(groups: Sequence[Group], quoted: Sequence[Quoted]) -> str:
    """One line a number: group, rank, method, run, kind, metric, value, interval, n, version, extractor,
    source."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
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
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a pipe has no width of its own
    for group in groups:
        console.print(table.terminal([named(entry) for entry in group.entries], group.title))
    for q in quoted:
        shown = Table(title=f"QUOTED, not measured here: {q.title}", caption=q.protocol, box=box.SIMPLE_HEAD)
        shown.add_column("method (quoted)")
        for column in q.columns.values():
            shown.add_column(str(column["name"]), justify="right")
        shown.add_column("source", style="dim")
        for row in q.rows:
            shown.add_row(
                escape(row["method"]), *(_quoted_cell(row, key) for key in q.columns), escape(row["source"])
            )
        console.print(shown)


def _quoted_cell(row: dict[str, Any], key: str) -> str:
    return f"{row[key]:g}" if key in row else table.ABSENT
