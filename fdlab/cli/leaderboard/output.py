"""Where what a sub-command made goes, and where things are kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
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

    with writing(out):
        write_text(out, text)


@contextmanager
def writing(out: str | Path) -> Iterator[None]:
    """Turn what a folder answers that takes no file into one line about what was asked for. Raises:
    UserError."""
    from fdlab.errors import UserError

    if Path(out).is_dir():
        raise UserError(f"'{out}' is a folder; give the name of a file.")
    try:
        yield
    except OSError as error:
        raise UserError(f"'{out}' cannot be written: {error.strerror or error}.") from error
