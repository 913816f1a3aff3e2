"""A file of prompts, CSV or JSONL, as rows of checked fields; what is wrong is named by file and line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdlab import foreign
from fdlab.errors import UserError, unknown
from fdlab.files import is_file, shortened

COLUMNS = ("prompt", "subjects", "seed", "face")
"""Only the first is needed."""
KINDS = ("csv", "jsonl")
SEPARATOR = ";"
"""Between the subjects, and the faces, of a CSV's cell."""


@dataclass(frozen=True)
class FilePrompt:
    """One line of the file."""

    where: str
    """`FILE, line 3`."""
    prompt: str
    photos: tuple[Path, ...]
    """Relative ones are meant from the file's folder."""
    seed: int | None
    faces: tuple[int | None, ...] | None


def read(path: Path) -> list[FilePrompt]:
    """Read every row. Raises: UserError."""
    if not is_file(path):
        raise UserError(f"prompts file {shortened(path)} does not exist.")
    kind = path.suffix.lower().removeprefix(".")
    if kind not in KINDS:
        raise unknown(f"kind of prompts file '{path.name}':", kind, KINDS)
    text = foreign.text(path, "prompts file").removeprefix("\ufeff")
    found = _csv(path, text) if kind == "csv" else _jsonl(path, text)
    rows = [_row(path, number, fields) for number, fields in found]
    if not rows:
        raise UserError(f"prompts file '{path}' has no prompt; give one a line.")
    return rows


def _csv(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    header: list[str] | None = None
    last = 0
    try:
        for cells in reader:
            # A cell may hold line ends: the row begins behind the one before.
            number, last = last + 1, reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = [cell.strip() for cell in cells]
                _check_columns(path, number, header)
                continue
            if len(cells) > len(header):
                raise UserError(
                    f"{_where(path, number)}: {len(cells)} cells, but {len(header)} columns;"
                    ' put text with a comma in "quotes".'
                )
            yield number, _split(dict(zip(header, (cell.strip() for cell in cells), strict=False)))
    except csv.Error as error:
        raise UserError(f"{_where(path, reader.line_num)}: not CSV ({error}).") from error


def _split(cells: dict[str, str]) -> dict[str, Any]:
    """A CSV's cells as JSONL would give them; an empty cell is none."""
    fields: dict[str, Any] = {key: cell for key, cell in cells.items() if cell}
    for key in ("subjects", "face"):
        if key in fields:
            fields[key] = [part.strip() or None for part in fields[key].split(SEPARATOR)]
    fields["face"] = [_number(part) for part in fields.get("face", [])] or None
    fields["seed"] = _number(fields.get("seed"))
    return fields


def _number(cell: str | None) -> Any:
    """The whole number that a cell holds, else the cell, which is refused later with all others."""
    return int(cell) if cell is not None and cell.isascii() and cell.isdigit() else cell


def _jsonl(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    # Not splitlines: JSON's text may hold other characters that end lines.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        fields = foreign.parse_json(line, _where(path, number))
        if not isinstance(fields, dict):
            raise UserError(f'{_where(path, number)}: an object such as {{"prompt": "..."}} is needed.')
        _check_columns(path, number, list(fields))
        yield number, fields


def _check_columns(path: Path, number: int, names: list[str]) -> None:
    for name in names:
        if name not in COLUMNS:
            raise unknown(f"column in {_where(path, number)}:", name, COLUMNS)
    if "prompt" not in names:
        raise UserError(f"{_where(path, number)}: no column 'prompt'; given: {', '.join(names)}.")
    if len(set(names)) < len(names):
        raise UserError(f"{_where(path, number)}: a column is there twice: {', '.join(names)}.")


def _row(path: Path, number: int, fields: dict[str, Any]) -> FilePrompt:
    where = _where(path, number)
    prompt, subjects, seed, face = (fields.get(name) for name in COLUMNS)
    if not isinstance(prompt, str) or not prompt.strip():
        raise UserError(f"{where}: prompt is {json.dumps(prompt)}; text is needed.")
    subjects = [subjects] if isinstance(subjects, str) else subjects or []
    if not isinstance(subjects, list) or not all(isinstance(name, str) and name for name in subjects):
        raise UserError(f"{where}: subjects are {json.dumps(subjects)}; paths of photos are needed.")
    if seed is not None and not _counts(seed):
        raise UserError(f"{where}: seed is {json.dumps(seed)}; a whole number from 0 is needed.")
    faces = face if isinstance(face, list) or face is None else [face]
    if faces is not None and not all(index is None or _counts(index) for index in faces):
        raise UserError(f"{where}: face is {json.dumps(face)}; whole numbers from 0 are needed.")
    photos = tuple(path.parent / Path(name).expanduser() for name in subjects)
    return FilePrompt(where, prompt.strip(), photos, seed, None if faces is None else tuple(faces))


def _counts(value: Any) -> bool:
    return type(value) is int and value >= 0


def _where(path: Path, number: int) -> str:
    return f"{path}, line {number}"
