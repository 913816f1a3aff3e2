"""Where what a sub-command made goes, and where things are kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache() -> Path:
    """The folder of what can be made again, as conf/config.yaml names it."""
    return Path(os.environ.get("FDLAB_CACHE", "~/.cache/fdlab")).expanduser()


def put(text: str, out: str | None) -> None:
    """Print, or write to a file."""
    if out is None:
        print(text, end="")
        return
    from fdlab.files import write_text

    write_text(out, text)
