"""The board as one self-contained HTML page: no outside request, readable by phone, by keyboard, in the dark.

Pictures are referred to by relative links and load when they come into view; some can lie in the page itself.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from fdlab.escape import visible
from fdlab.files import write_text
from fdlab.leaderboard.evidence import Look, Reader
from fdlab.leaderboard.tables import Board
from fdlab.publishing import page_data

FOLDER = Path(__file__).with_name("page")
TITLE = "Leaderboard"


def write(board: Board, path: Path, look: Look | None = None, title: str = TITLE, carried: int = 0) -> None:
    """Write the page; its links are relative to the folder that `path` lies in. `carried` pictures of each
    row, and its worst, lie in the page."""
    write_text(path, text(board, path.parent, look or Reader(), title, carried))


def text(board: Board, folder: Path, look: Look, title: str = TITLE, carried: int = 0) -> str:
    """The page's text, for a page that lies in `folder`. Data stands in a JSON block whose `<` are escaped,
    so that no text can end it."""
    content = _seen(page_data.content(board, folder, look, carried))
    data = json.dumps(content, allow_nan=False, separators=(",", ":"))
    parts = {
        "TITLE": escape(title),
        "STYLE": _file("board.css"),
        "SCRIPT": _file("board.js"),
        "DATA": data.replace("<", "\\u003c"),
    }
    made = _file("board.html")
    head, *rest = made.split("{{")
    filled = [head]
    for part in rest:
        key, _, after = part.partition("}}")
        filled += [parts[key], after]
    return "".join(filled)


def _seen(value: Any) -> Any:
    """The same with every text as `visible` has it: a browser would obey what turns the direction of writing,
    and a copied command would hold what a terminal obeys."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {_seen(key): _seen(one) for key, one in value.items()}
    return [_seen(one) for one in value] if isinstance(value, list | tuple) else value


def _file(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
