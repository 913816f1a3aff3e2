"""Published numbers as tables: beside measured ones, never among them."""

from __future__ import annotations

from typing import Any

from fdlab import escape
from fdlab.leaderboard.published import Quoted
from fdlab.records.table import ABSENT


def markdown(entry: Quoted) -> str:
    """One protocol's numbers in Markdown."""
    head, rows = cells(entry)
    notes = escape.markdown(". ".join(entry.notes))
    lines = [f"## Quoted: {escape.markdown(entry.title)}\n", f"Not measured here. {notes}\n"]
    lines += [
        "| " + " | ".join(escape.markdown(name) for name in head) + " |",
        "|---|" + "---:|" * (len(head) - 2) + "---|",
    ]
    lines += ["| " + " | ".join(escape.markdown(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def terminal(entry: Quoted) -> Any:
    """The same as a rich renderable."""
    from rich import box
    from rich.table import Table

    head, rows = cells(entry)
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


def write_csv(writer: escape.CsvWriter, entry: Quoted, number: int | str) -> None:
    """The same as lines of `formats.as_csv`; `number` is the table that it stands beside."""
    for row in entry.rows:
        for key, column in entry.columns.items():
            if key in row:
                writer.writerow([
                    number, entry.id, "", "", row["method"], "", "", "quoted", column["name"], row[key], "",
                    "", "", "", "", row["source"], "", row.get("deviation", {}).get(key, ""), "quoted",
                ])  # fmt: skip


def cells(entry: Quoted) -> tuple[list[str], list[list[str]]]:
    """Headings and cells, best first."""
    with_references = any("references" in row for row in entry.rows)
    arrows = [f"{c['name']} {'↑' if c['higher_is_better'] else '↓'}" for c in entry.columns.values()]
    head = ["method", *["references"] * with_references, *arrows, "source"]
    rows = []
    for row in entry.rows:
        count = [str(row.get("references", ABSENT))] * with_references
        numbers = [_cell(row, key, column["unit"]) for key, column in entry.columns.items()]
        rows.append([f"{row['method']} (quoted)", *count, *numbers, row["source"]])
    return head, rows


def _cell(row: dict[str, Any], key: str, unit: str) -> str:
    if key not in row:
        return ABSENT
    decimals = 2 if unit == "percent" else 3
    spread = row.get("deviation", {}).get(key)
    return f"{row[key]:.{decimals}f}" + (f" ± {spread:.{decimals}f}" if spread is not None else "")
