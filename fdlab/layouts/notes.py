"""What the finished jobs of a long reading have found, kept beside what is being made of it: the same call
goes on after an interruption."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fdlab import foreign
from fdlab.errors import UserError
from fdlab.files import write_text


class Notes:
    """A line a job; those of another `digest`, which is of all that decides what is found, are forgotten.
    Raises: UserError where the file cannot be written."""

    def __init__(self, path: Path, digest: str) -> None:
        self.path = path
        self.found: dict[int, Any] = {}
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else []
        if lines[:1] == [digest]:
            # A kill may have cut the last one short.
            self.found = dict(_read(lines[1:]))
        head = [digest, *(json.dumps([number, found]) for number, found in self.found.items())]
        try:
            write_text(path, "".join(f"{line}\n" for line in head))
        except OSError as error:
            raise UserError(f"'{path}' cannot be written: {error.strerror}; give --out FILE.") from error

    def add(self, number: int, found: Any) -> None:
        """Note what a job has found."""
        self.found[number] = found
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps([number, found]) + "\n")

    def forget(self) -> None:
        """Remove the file: what was to be made is there."""
        self.path.unlink(missing_ok=True)


def _read(lines: list[str]) -> Iterator[tuple[int, Any]]:
    for line in lines:
        try:
            number, found = foreign.parse_json(line, "note")
        except (UserError, TypeError, ValueError):
            continue
        yield number, found
