"""What a person corrected by hand, as the page exports it and the next run honours it.

    {"version": 1,
     "drop": [picture, ...],
     "captions": {picture: text, with <|image|> behind the noun of each person or without},
     "identities": {"picture/face": name, ...}}     faces of one name are one person, and nobody else is

A picture is known by the hash of its photo's content, so that photos may be moved, renamed and added; a face
by its number from left to right.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fdlab import foreign
from fdlab.data.captions import parse
from fdlab.errors import UserError, unknown

FILE = "corrections.json"
VERSION = 1


@dataclass(frozen=True)
class Corrections:
    """Nothing, unless somebody said something."""

    drop: frozenset[str] = frozenset()
    captions: dict[str, str] = field(default_factory=dict)
    identities: dict[tuple[str, int], str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.drop) + len(self.captions) + len(self.identities)


def read(path: Path) -> Corrections:
    """Read a file. Raises: UserError that names what is wrong."""
    value = foreign.read_json(path, "corrections")
    kinds: dict[str, type] = {"drop": list, "captions": dict, "identities": dict}
    if not isinstance(value, dict) or value.get("version") != VERSION:
        raise UserError(
            f"corrections '{path}' are no object of version {VERSION}; export them from the page."
        )
    for key, kind in kinds.items():
        if not isinstance(value.setdefault(key, kind()), kind):
            raise UserError(f"corrections '{path}': '{key}' is {foreign.shown(value[key])}.")
    for key in set(value) - {"version", *kinds}:
        raise UserError(f"corrections '{path}': {unknown('key', str(key), ('version', *kinds))}")
    named = [("drop", text) for text in value["drop"]]
    for key in ("captions", "identities"):
        named += [(f"{key}, {name}", text) for name, text in value[key].items()]
    for place, text in named:
        if not isinstance(text, str) or not text.strip():
            raise UserError(
                f"corrections '{path}', {place}: {foreign.shown(text)} where a text is needed, as \"Ada\"."
            )
    for text in value["captions"].values():
        try:
            parse(text)
        except UserError as error:
            raise UserError(f"corrections '{path}': {error}") from error
    faces = {_face(name, path): identity for name, identity in value["identities"].items()}
    return Corrections(frozenset(value["drop"]), value["captions"], faces)


def _face(name: Any, path: Path) -> tuple[str, int]:
    picture, slash, number = str(name).partition("/")
    if not (slash and number.isdecimal()):
        raise UserError(f"corrections '{path}': {foreign.shown(name)} is no face; PICTURE/NUMBER is needed.")
    return picture, int(number)
