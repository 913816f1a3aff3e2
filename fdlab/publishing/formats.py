"""A board as Markdown, JSON, CSV, or tables in the terminal (`latex` and `page` are modules of their own)."""

from __future__ import annotations

import dataclasses
import io
import json
from typing import Any

from fdlab import escape
from fdlab.leaderboard.tables import Board, Cell, Row, Table
from fdlab.publishing import quoted_tables, words
from fdlab.records import table as records_table

CSV_COLUMNS = (
    "table", "benchmark", "benchmark_sha256", "rank", "method", "run", "training_steps", "kind", "metric",
    "value", "ci_low", "ci_high", "n", "version", "extractor", "source", "seeds", "spread", "marks",
)  # fmt: skip


def markdown(board: Board) -> str:
    """All tables in Markdown."""
    parts = []
    for table in board.tables:
        parts.append(f"## {escape.markdown(words.heading(table))}\n")
        parts.append(_markdown_table(table))
        parts += [f"{escape.markdown(text)}\n" for text in words.notes(table)]
        parts += [quoted_tables.markdown(entry) for entry in table.quoted]
    parts += [quoted_tables.markdown(entry) for entry in board.quoted]
    return "\n".join(parts)


def _markdown_table(table: Table) -> str:
    names = table.metrics
    head = ["rank", "method", "training steps", *(records_table.heading(name) for name in names), "marks"]
    lines = ["| " + " | ".join(head) + " |", "|---:|---|---:|" + "---:|" * len(names) + "---|"]
    for row in table.rows:
        cells = [row.cells.get(name) for name in names]
        numbers = [
            f"{words.value(cell, name)} {words.interval(cell, name)}".strip()
            for cell, name in zip(cells, names, strict=True)
        ]
        first = [words.rank(row), escape.markdown(row.label), escape.markdown(_steps(row))]
        lines.append("| " + " | ".join([*first, *numbers, escape.markdown(words.marks(row))]) + " |")
    return "\n".join(lines) + "\n"


def as_json(board: Board) -> str:
    """{"measured": [{number, benchmark, ordered_by, apart, front_of, rows}], "quoted": [...]}; a row has its
    records whole."""
    measured = [
        {
            "number": table.number,
            "benchmark": table.benchmark,
            "ordered_by": table.ordered_by or None,
            "apart": table.apart or None,
            "front_of": table.axes,
            "rows": [_row(row) for row in table.rows],
        }
        for table in board.tables
    ]
    entries = [*(entry for table in board.tables for entry in table.quoted), *board.quoted]
    followed = {
        entry.id: [t.benchmark["sha256"] for t in board.tables if entry in t.quoted] for entry in entries
    }
    quoted = [
        {**dataclasses.asdict(entry), "kind": "quoted", "same_protocol": followed[entry.id]}
        for entry in {entry.id: entry for entry in entries}.values()
    ]
    made = {"schema_version": 2, "measured": measured, "quoted": quoted}
    return json.dumps(made, indent=2, allow_nan=False) + "\n"


def _row(row: Row) -> dict[str, Any]:
    return {
        "label": row.label,
        "rank": row.rank,
        "unranked": row.unranked or None,
        "marks": [{"word": mark.word, "text": mark.text} for mark in row.marks],
        "on_front": row.on_front,
        "seeds": row.num_seeds,
        "values": {name: _cell(cell) for name, cell in row.cells.items()},
        "records": [{"path": str(e.path), "run": e.run, **e.record} for e in row.entries],
    }


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "value": cell.value, "ci_low": cell.low, "ci_high": cell.high, "n": cell.num, "spread": cell.spread,
    }  # fmt: skip


def as_csv(board: Board) -> str:
    """One line a number, see `CSV_COLUMNS`."""
    out = io.StringIO()
    writer = escape.CsvWriter(out)
    writer.writerow(CSV_COLUMNS)
    for table in board.tables:
        for row in table.rows:
            for name, cell in row.cells.items():
                writer.writerow(_csv_line(table, row, name, cell))
        for entry in table.quoted:
            quoted_tables.write_csv(writer, entry, table.number)
    for entry in board.quoted:
        quoted_tables.write_csv(writer, entry, "")
    return out.getvalue()


def _csv_line(table: Table, row: Row, name: str, cell: Cell) -> list[Any]:
    record = row.record
    entry = record["metrics"][name]
    return [
        table.number, table.benchmark["name"], table.benchmark["sha256"], row.rank_text,
        records_table.label(record), row.entry.run, records_table.steps(record),
        record["provenance"]["kind"], name, cell.value, cell.low, cell.high, cell.num, entry["version"],
        entry["extractor"]["name"], row.entry.path, row.num_seeds,
        cell.spread, "; ".join(mark.word for mark in row.marks),
    ]  # fmt: skip


def show(board: Board) -> None:
    """Print tables to the terminal."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a pipe has no width of its own
    for table in board.tables:
        console.print(_terminal(table))
        for entry in table.quoted:
            console.print(quoted_tables.terminal(entry))
    for entry in board.quoted:
        console.print(quoted_tables.terminal(entry))


def _terminal(table: Table) -> Any:
    """A table as a rich renderable; intervals stand below the numbers, marks below the method."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    made = RichTable(
        title=escape.terminal(words.heading(table), style="table.title"),
        box=box.SIMPLE_HEAD,
        caption=escape.terminal(*words.notes(table), style="table.caption"),
        caption_justify="left",
    )
    names = table.short
    made.add_column("rank", justify="right")
    made.add_column("method")
    made.add_column("training steps", justify="right")
    for name in names:
        made.add_column(records_table.heading(name), justify="right")
    for row in table.rows:
        cells = []
        for name in names:
            cell = row.cells.get(name)
            below = words.interval(cell, name)
            cells.append(Text.assemble(words.value(cell, name), (f"\n{below}" if below else "", "dim")))
        said = words.marks(row)
        label = escape.terminal(row.label)
        if said:
            label = Text("\n").join([label, escape.terminal(said, style="dim")])
        made.add_row(words.rank(row), label, escape.terminal(_steps(row)), *cells)
    return made


def _steps(row: Row) -> str:
    return records_table.steps(row.record)
