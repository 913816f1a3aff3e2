"""What a run is trained on, as far as no configuration says it: a digest of each sample, beside the
configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fdlab import foreign
from fdlab.errors import UserError
from fdlab.files import write_json

FILE = "data.json"
VERSION = 1
"""Of the file, and of what the digests are of."""


@dataclass(frozen=True)
class Seen:
    """Samples by what the configuration calls their folder (data.root, data.prior.root)."""

    pieces: bool
    """Whether digests are of pieces of long files, as of `fdlab.caches.contents`."""
    samples: Mapping[str, Mapping[str, str]]
    """Id to digest, in the order of the folder's list."""

    def save(self, run_dir: Path) -> None:
        """Write it into a run directory."""
        write_json(run_dir / FILE, {"version": VERSION, **asdict(self)})

    def change(self, now: Seen) -> tuple[str, str] | None:
        """The first folder that holds something else now, and what; None: none does, as far as digests of
        two kinds can say."""
        if self.pieces != now.pieces:
            return None
        for key in self.samples:
            if what := _change(self.samples[key], now.samples.get(key, self.samples[key])):
                return key, what
        return None


def load(run_dir: Path) -> Seen | None:
    """What a run was trained on; None of one that does not say, as one from before there was this file.
    Raises: UserError for a damaged file."""
    path = run_dir / FILE
    if not path.exists():
        return None
    try:
        value = foreign.read_json(path, "file")
        if value["version"] != VERSION:
            return None
        if not _is_whole(value):
            raise ValueError
        return Seen(value["pieces"], value["samples"])
    except (UserError, KeyError, TypeError, ValueError):
        raise UserError(
            f"'{path}', of what the run was trained on, is damaged; remove it to go on whatever the data are."
        ) from None


def _is_whole(value: Mapping[str, Any]) -> bool:
    folders = value["samples"]
    return (
        isinstance(value["pieces"], bool)
        and isinstance(folders, dict)
        and bool(folders)
        and all(isinstance(found, dict) for found in folders.values())
        and all(isinstance(digest, str) for found in folders.values() for digest in found.values())
    )


def _change(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """In words; empty: none."""
    found = {
        "changed": [id for id in old if id in new and old[id] != new[id]],
        "gone": [id for id in old if id not in new],
        "new": [id for id in new if id not in old],
    }
    texts = [
        f"{len(ids):,} {what} ({'first ' * (len(ids) > 1)}{foreign.shown(ids[0])})"
        for what, ids in found.items()
        if ids
    ]
    if texts:
        return f"of {len(old):,} samples {', '.join(texts)}"
    return "" if list(old) == list(new) else "the samples have another order"
