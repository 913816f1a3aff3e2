"""Whom a data set shows, as records say it: so that a benchmark's people can be told from a training's.

Rendered people are numbers of one population, so a span of numbers says who. A folder of photos knows no
identities: it is named, counted, and its list of ids digested.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fdlab.data.folder import Folder, folder_of
from fdlab.data.layout import read_json
from fdlab.data.sample import CorruptFile

Span = list[int]
"""The first and the last number of rendered people who follow one another."""


def shown_by(root: Path | Folder, split: str) -> dict[str, Any]:
    """{"rendered": [first, last]}, or {"folder", "num_pictures", "ids_sha256"} for any other folder. Raises:
    UserError for a folder that lists no picture."""
    from fdlab.data import rendered  # the renderer takes a while to import

    folder = folder_of(root)
    try:
        card = read_json(folder.root / rendered.COMPLETE)
        return {"rendered": [0, rendered.num_identities(int(card["num"])) - 1]}
    except (CorruptFile, KeyError, TypeError, ValueError):
        ids = folder.ids(split)
        digest = hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()
        return {"folder": folder.root.name, "num_pictures": len(ids), "ids_sha256": digest}


def spans(numbers: Iterable[int]) -> list[Span]:
    """Numbers as spans of those that follow one another."""
    found: list[Span] = []
    for number in sorted(set(numbers)):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def joined(*shown: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What several data sets show, each once."""
    found: list[dict[str, Any]] = []
    for entry in (entry for each in shown for entry in each):
        if entry not in found:
            found.append(entry)
    return found
