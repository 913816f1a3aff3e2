"""Captions that lie beside photos: NAME.txt or NAME.caption, and lines of a metadata.jsonl."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from fdlab import foreign
from fdlab.data.sample import CorruptFile
from fdlab.errors import UserError
from fdlab.layouts.captions import caption_of
from fdlab.layouts.plain import CAPTIONS, METADATA, named_caption


class Beside:
    """Reads what lies beside photos below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.unreadable: list[str] = []
        """What could not be read, a line each."""
        self._listed = lru_cache(maxsize=None)(self._read_list)

    def __call__(self, name: str) -> str | None:
        """A photo's caption; None where there is none. `name`: its path from the folder."""
        path = self.root / name
        for suffix in CAPTIONS:
            beside = path.with_suffix(suffix)
            if beside.is_file():
                try:
                    return caption_of(beside.read_bytes(), str(beside)) or None
                except CorruptFile as error:
                    self.unreadable.append(str(error))
        for folder in _upwards(path.parent, self.root):
            caption = self._listed(folder).get(path.relative_to(folder).as_posix())
            if caption:
                return caption
        return None

    def _read_list(self, folder: Path) -> dict[str, str]:
        path, found = folder / METADATA, dict[str, str]()
        if not path.is_file():
            return found
        try:
            lines = foreign.text(path, "list of captions").splitlines()
        except UserError as error:
            self.unreadable.append(str(error))
            return found
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            place = f"'{path}', line {number}"
            try:
                name, caption = named_caption(foreign.parse_json(line, place), place)
            except UserError as error:
                self.unreadable.append(str(error))
                continue
            found.setdefault(name, " ".join(caption.split()))
        return found


def _upwards(folder: Path, root: Path) -> Sequence[Path]:
    """A folder and those above it, up to the root."""
    inside = folder.relative_to(root).parts
    return [root.joinpath(*inside[:n]) for n in range(len(inside), -1, -1)]
