"""Somebody's text in a terminal, in Markdown, in LaTeX and in a spreadsheet: shown as it is, never obeyed.

(For HTML `html.escape` does the same.)
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.text import Text

_SPECIAL = re.compile(r"[\\`*\[\]<>|~&$]|(?<![^\W_])_|_(?![^\W_])")
"""What Markdown obeys within a line; an underscore within a word it does not."""
_LINKED = re.compile(r"(?i:https?|ftp)://|(?i:\bwww)\.|[@#](?=\w)")
"""What sites make links of within a line: addresses, people's names, numbers of issues."""
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Letters that count as printable and show nothing, so that two texts look alike."""


def visible(text: str) -> str:
    """One line without control characters: each is written as its escape, such as `\\x1b`.

    Those that turn the direction of writing, break a line, or show nothing are among them.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if _is_seen(c) else c.encode("unicode_escape").decode() for c in text)


def _is_seen(c: str) -> bool:
    return c.isprintable() and not _UNSEEN.match(c)


def without_password(text: str) -> str:
    """A text in which databases' addresses do not show their passwords."""
    text = re.sub(r"(://[^:@/\s]*:)\S*@", r"\1***@", text)
    return re.sub(r"(?i)(passw[^=&\s]*=)[^&\s'\"]*", r"\1***", text)


def terminal(*lines: str, style: str = "") -> Text:
    """For rich, which takes a str for markup."""
    from rich.text import Text

    return Text("\n".join(visible(line) for line in lines), style=style)


def markdown(text: str) -> str:
    """For a line or a cell of Markdown; nobody is called, and no address or number becomes a link."""
    return _LINKED.sub(_apart, _SPECIAL.sub(r"\\\g<0>", visible(text)))


def _apart(found: re.Match[str]) -> str:
    """An address with its slashes escaped; a sign that sites link by, apart from its word by a comment."""
    sign = found[0]
    return sign.replace("/", r"\/").replace(".", r"\.") if len(sign) > 1 else f"{sign}<!-- -->"


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%",
    "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"$<$", ">": r"$>$", "|": r"$|$",
    '"': r"''", "±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "◆": r"$\diamond$",
    "[": "{[}", "]": "{]}", "…": r"\ldots{}",
}  # fmt: skip


def latex(text: str) -> str:
    """For a line of LaTeX: what it obeys is written out, and what pdflatex has no letter for as its
    number."""

    def one(c: str) -> str:
        if c in _LATEX:
            return _LATEX[c]
        # Letters with accents are in every font; of the others of Latin-1 not all are.
        known = c.isascii() or ("À" <= c <= "ÿ" and c not in "ÐðÞþ×÷")
        return c if known else rf"\texttt{{U+{ord(c):04X}}}"

    return "".join(map(one, visible(text)))


def figure(text: str) -> str:
    """For matplotlib, which takes what stands between dollars for mathematics; lines stay."""
    return "\n".join(visible(line) for line in text.split("\n")).replace("$", r"\$")


def cell(value: Any) -> Any:
    """For a CSV: on one line, and with an apostrophe before what a spreadsheet would take for a formula."""
    if not isinstance(value, str):
        return value
    seen = visible(value)
    return f"'{seen}" if len(seen) > 1 and seen.lstrip(" ").startswith(_FORMULA) else seen


class CsvWriter:
    """Writes the lines of a CSV, each cell as `cell` has it."""

    def __init__(self, stream: TextIO) -> None:
        self._writer = csv.writer(stream, lineterminator="\n")

    def writerow(self, cells: Iterable[Any]) -> None:
        """Write one line."""
        self._writer.writerow([cell(value) for value in cells])
