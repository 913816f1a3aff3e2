"""The one file that every page of records is: its head, what it may load, its data and its script."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("page")
ELEMENTS = "elements.js"
"""What all scripts build pages with."""


def document(title: str, style: str, body: Sequence[str], script: str = "", data: Any = None) -> str:
    """A page's text. Nothing is fetched but what lies beside it, and of pictures those inside.

    style: CSS; body: HTML; script: a file of `page/`, which finds `data` as JSON whose `<` are escaped, so
    that no text can end it.
    """
    policy = "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'"
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}{_SCRIPTS if script else ""}">',
        f"<title>{escape(title)}</title><style>{style}</style></head>",
        "<body><main>",
        *body,
        "</main>",
    ]
    if script:
        block = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
        parts += [
            f'<script type="application/json" id="data">{block}</script>',
            f"<script>\n{file(ELEMENTS)}{file(script)}</script>",
        ]
    return "\n".join([*parts, "</body></html>\n"])


_SCRIPTS = "; script-src 'unsafe-inline'"


def file(name: str) -> str:
    """The text of a file of `page/`."""
    return (FOLDER / name).read_text(encoding="utf-8")
