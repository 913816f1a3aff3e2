"""A board as LaTeX tables (booktabs): best in bold, second underlined, intervals in small below the numbers.

What is printed needs `\\usepackage{booktabs,graphicx}` and compiles under pdflatex whatever the labels hold.
Large tables are scaled to the line and the page, and long labels broken.
"""

from __future__ import annotations

from collections.abc import Sequence

from fdlab import escape
from fdlab.leaderboard.published import Quoted
from fdlab.leaderboard.tables import Board, Row, Table
from fdlab.metrics.registry import METRICS
from fdlab.publishing import quoted_tables, words

HEAD = "% In the preamble: \\usepackage{booktabs,graphicx}\n"
_LONG_LABEL, _LONG_WORD = 40, 16
"""Characters of a label that stand on one line, and of a word that is not broken."""
_TO_PAGE = (
    "\\resizebox*{!}{\\ifdim\\totalheight>.7\\textheight .7\\textheight\\else\\totalheight\\fi}{%\n"
    "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%"
)


def text(board: Board) -> str:
    """Every table as a `table` environment."""
    parts = [HEAD]
    for table in board.tables:
        parts.append(_table(table))
        parts += [_quoted(entry) for entry in table.quoted]
    return "\n".join([*parts, *(_quoted(entry) for entry in board.quoted)])


def _table(table: Table) -> str:
    names = table.short
    leading = {name: words.best(table, name) for name in names}
    letters = _letters(table.rows)
    lines = []
    for row in table.rows:
        signs = ",".join(["\\diamond"] * row.on_front + [letters[what] for what in _marks(row)])
        label = _boxed(row.label, f"$^{{{signs}}}$" if signs else "")
        cells = [_cell(row, name, *leading[name]) for name in names]
        lines.append(_line([escape.latex(words.rank(row)), label, *cells]))
    heads = [f"{escape.latex(METRICS[name].label)} ${_arrow(name)}$" for name in names]
    said = [f"$^{{{letter}}}$~{_broken(what)}." for what, letter in letters.items()]
    notes = [_broken(note) for note in _notes(table)]
    return _environment(
        _broken(words.heading(table).partition(". ")[2]),
        "rl" + "r" * len(names),
        ["rank", "method", *heads],
        lines,
        said + notes,
    )


def _cell(row: Row, name: str, leading: set[int], second: set[int]) -> str:
    """A number, its interval below it: on the first line of a label that has several."""
    number = _emphasised(row, name, leading, second)
    below = words.interval(row.cells.get(name), name)
    if not below:
        return number
    return f"\\begin{{tabular}}[t]{{@{{}}r@{{}}}}{number}\\\\{{\\scriptsize {below}}}\\end{{tabular}}"


def _emphasised(row: Row, name: str, leading: set[int], second: set[int]) -> str:
    number = escape.latex(words.value(row.cells.get(name), name))
    if id(row) in leading:
        return f"\\textbf{{{number}}}"
    return f"\\underline{{{number}}}" if id(row) in second else number


def _boxed(label: str, signs: str = "") -> str:
    """A cell; a long one in lines of its own."""
    if len(label) <= _LONG_LABEL:
        return escape.latex(label) + signs
    return f"\\parbox[t]{{6cm}}{{\\raggedright {_broken(label)}{signs}\\strut}}"


def _broken(text: str) -> str:
    """Text whose long words may be broken."""
    return " ".join(
        "\\allowbreak{}".join(
            escape.latex(word[start : start + _LONG_WORD]) for start in range(0, len(word), _LONG_WORD)
        )
        for word in text.split(" ")
    )


def _marks(row: Row) -> list[str]:
    """What a letter stands for, each once."""
    said = [f"{mark.word}: {mark.text}" for mark in row.marks]
    if row.unranked and row.competes:
        said.append(f"not ranked: {row.unranked}")
    return list(dict.fromkeys(said))


def _letters(rows: Sequence[Row]) -> dict[str, str]:
    """A letter for each mark of a table (a number behind it after the 26th)."""
    said = list(dict.fromkeys(what for row in rows for what in _marks(row)))
    return {what: chr(ord("a") + n % 26) + (str(n // 26) if n >= 26 else "") for n, what in enumerate(said)}


def _notes(table: Table) -> list[str]:
    """The notes that no letter stands for."""
    carried = ("not ranked (", *(f"{mark.word} (" for row in table.rows for mark in row.marks))
    return [note for note in words.notes(table) if not note.startswith(carried)]


def _quoted(entry: Quoted) -> str:
    head, rows = quoted_tables.cells(entry)
    lines = [_line([_boxed(cell) for cell in row]) for row in rows]
    notes = [_broken(note) for note in entry.notes]
    title = _broken(f"Quoted, not measured here: {entry.title}")
    columns = "l" + "r" * (len(head) - 2) + "l"
    return _environment(title, columns, [escape.latex(name) for name in head], lines, notes)


def _environment(
    title: str, columns: str, head: Sequence[str], lines: Sequence[str], notes: Sequence[str]
) -> str:
    return "\n".join(
        [
            "\\begin{table}\n\\centering\n\\small",
            f"\\caption{{{title}}}",
            f"{_TO_PAGE}\n\\begin{{tabular}}{{{columns}}}\n\\toprule",
            f"{_line(head)}\n\\midrule",
            *lines,
            "\\bottomrule\n\\end{tabular}}}",
            *(f"\n{{\\footnotesize {note}\\par}}" for note in notes),
            "\\end{table}\n",
        ]
    )


def _line(cells: Sequence[str]) -> str:
    return " & ".join(f"{{}}{cell}" if cell.startswith("[") else cell for cell in cells) + " \\\\"


def _arrow(name: str) -> str:
    return "\\uparrow" if METRICS[name].higher_is_better else "\\downarrow"
