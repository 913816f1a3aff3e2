"""Prompts from a text file, one a line; a line `# NAME` names the category of those below it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fdlab import foreign
from fdlab.data.captions import MARKER
from fdlab.errors import UserError

_NOUN = re.compile(r"\{noun\d*\}")


def lines(path: Path) -> list[str]:
    """The lines of a text file in UTF-8. Raises: UserError."""
    return foreign.text(path, "file of prompts").removeprefix("\ufeff").split("\n")


def read(path: Path) -> list[dict[str, Any]]:
    """Prompts as a manifest has them. A line with `{noun}` and without any marker gets one behind each noun.

    UserError for a file without prompts, or with one that stands twice.
    """
    category = ""
    found: list[tuple[str, str]] = []
    at: dict[str, int] = {}
    for number, line in enumerate(lines(path), 1):
        text = " ".join(line.split())
        if text.startswith("#"):
            category = text.lstrip("# ")
        elif text:
            if text in at:
                raise UserError(f"'{path}': line {number} repeats the prompt of line {at[text]}.")
            at[text] = number
            found.append((category, text if MARKER in text else _NOUN.sub(rf"\g<0> {MARKER}", text)))
    if not found:
        raise UserError(f"'{path}' has no prompt; give one a line, as in: a {{noun}} {MARKER} on a beach")
    return entries(found)


def entries(found: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """A manifest's prompts from (category, text), with ids in their order."""
    width = max(2, len(str(len(found) - 1)))
    return [
        {"id": f"p{k:0{width}d}", "category": category, "text": text}
        for k, (category, text) in enumerate(found)
    ]
