"""Processes that train together end together, and the first that fails says why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from fdlab.config.directory import ENDED, is_main_process
from fdlab.errors import EndedElsewhere, UserError


@contextmanager
def ending(folder: Path) -> Iterator[None]:
    """Leave a note in `folder` for the processes beside this one when it fails: what then fails in them, as
    connections break, is no news. Raises: EndedElsewhere where another's note is there."""
    note = folder / ENDED
    if is_main_process():
        note.unlink(missing_ok=True)
    try:
        yield
    except Exception as error:
        alone = not (torch.distributed.is_available() and torch.distributed.is_initialized())
        if alone or not folder.is_dir():
            raise
        try:
            with note.open("x") as stream:
                stream.write(str(2 if isinstance(error, UserError) else 1))
        except FileExistsError:
            # Empty while it is being written.
            raise EndedElsewhere(int(note.read_text() or 1)) from None
        raise
