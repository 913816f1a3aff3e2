"""One tar of samples: what lies where in it, read at any place; and written so that the same samples give the
same bytes.

Members belong together by their key, which is their name up to its first dot (WebDataset's convention). Of a
tar that is written here the places stand beside it:

    NAME.tar
    NAME.index.json     {"bytes": of the tar, "samples": [[id, {".json": [offset, size], ...}], ...]}

so that opening many of them reads no tar; any other tar is walked from header to header.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fdlab import foreign
from fdlab.data.pieces import glance
from fdlab.data.sample import CorruptFile
from fdlab.errors import UserError
from fdlab.files import whole, write_text

_BROKEN_HEADER = (tarfile.TarError, ValueError, LookupError, ArithmeticError, TypeError)
"""What Python's reader of tars stumbles over in one."""
BLOCK = 512
"""Bytes; all in a tar comes in whole ones."""
Parts = dict[str, tuple[int, int]]
"""A sample's files: suffix to (offset, size) in the tar."""


@dataclass
class Tar:
    """What lies where in one tar."""

    path: Path
    samples: dict[str, Parts] = field(default_factory=dict)
    """Id to its files, in order."""
    faults: dict[str, str] = field(default_factory=dict)
    """What is wrong with the tar itself: id, or the tar's name, to the reason."""

    def read(self, id: str, suffix: str, pieces: bool = False) -> bytes:
        """One file of a sample; `pieces` as of `Folder.files`. Raises: CorruptFile where the tar ends before
        it does."""
        offset, size = self.samples[id][suffix]
        name = f"'{self.path / (id + suffix)}'"
        if size > foreign.MOST_BYTES:
            raise CorruptFile(f"{name} has more than {foreign.MOST_BYTES:,} bytes.")
        try:
            if pieces:
                return glance(self.path, offset, size)
            with self.path.open("rb") as stream:
                stream.seek(offset)
                data = stream.read(size)
        except OSError as error:
            raise CorruptFile(f"{name} cannot be read: {error.strerror}.") from error
        if len(data) < size:
            raise CorruptFile(f"{name} is cut short: the tar ends {size - len(data)} bytes too early.")
        return data


def key_of(id: str) -> str:
    """A sample's key: its id, with the dots (and the percent signs) that would end it early written as
    %2E."""
    return id.replace("%", "%25").replace(".", "%2E")


def id_of(key: str) -> str:
    """The inverse of `key_of`; folders in a tar's names become %2F, as ids have none."""
    return key.replace("%2E", ".").replace("%25", "%").replace("/", "%2F")


def open_tar(path: Path) -> Tar:
    """Where everything lies in a tar: by its index where that fits it, else by its headers. Raises: UserError
    for what is no tar at all."""
    return _indexed(path) or _walked(path)


def write_tar(path: Path, samples: Iterable[tuple[str, dict[str, bytes]]]) -> int:
    """Write samples (id, suffix to content) as a tar with its index, whole; returns how many. One sample at a
    time is in memory."""
    places: list[tuple[str, Parts]] = []
    with whole(path) as temporary:
        with temporary.open("wb") as stream, tarfile.open(fileobj=stream, mode="w") as made:
            for id, files in samples:
                parts: Parts = {}
                for suffix, content in files.items():
                    info = tarfile.TarInfo(key_of(id) + suffix)
                    info.size, info.mode, info.mtime = len(content), 0o644, 0
                    made.addfile(info, io.BytesIO(content))
                    blocks = -(-len(content) // BLOCK)
                    parts[suffix] = (made.offset - blocks * BLOCK, len(content))
                places.append((id, parts))
        size = temporary.stat().st_size
    write_text(index_path(path), json.dumps({"bytes": size, "samples": places}) + "\n")
    return len(places)


def index_path(path: Path) -> Path:
    """Where a tar's index lies."""
    return path.with_name(f"{path.stem}.index.json")


def _indexed(path: Path) -> Tar | None:
    """By the index; None where there is none that fits."""
    try:
        value = foreign.read_json(index_path(path), "index")
        size = path.stat().st_size
        if not isinstance(value, dict) or value.get("bytes") != size:
            return None
        found = Tar(path)
        for id, parts in value["samples"]:
            found.samples[str(id)] = {str(suffix): _place(place, size) for suffix, place in parts.items()}
    except (UserError, OSError, KeyError, TypeError, ValueError, AttributeError):
        return None
    return found


def _place(value: object, size: int) -> tuple[int, int]:
    if isinstance(value, list) and len(value) == 2 and all(foreign.is_count(n, 0) for n in value):
        offset, length = value
        if offset + length <= size:
            return offset, length
    raise ValueError(value)


def _walked(path: Path) -> Tar:
    found, end, is_whole = Tar(path), 0, True
    with _named(path), tarfile.open(path, mode="r:") as tar:
        try:
            for member in tar:
                if member.size < 0 or member.offset_data < end:
                    # A header that leads back, where it would be read for ever.
                    is_whole = False
                    break
                end = member.offset_data + -(-member.size // BLOCK) * BLOCK
                _take(found, member)
            is_whole = is_whole and _ends_well(path, max(end, tar.offset))
        except _BROKEN_HEADER:
            is_whole = False
    if not is_whole:
        found.faults[path.name] = (
            f"shard '{path}' is damaged or cut short at byte {end}: what may follow cannot be found."
        )
    return found


def _take(found: Tar, member: tarfile.TarInfo) -> None:
    """Note a file of a sample."""
    name = member.name.removeprefix("./")
    folder, slash, file = name.rpartition("/")
    stem, dot, suffix = file.partition(".")
    if not member.isreg() or not stem or not dot:
        return
    parts = found.samples.setdefault(id_of(folder + slash + stem), {})
    place = (member.offset_data, member.size)
    if parts.setdefault(f".{suffix.lower()}", place) != place:
        found.faults[name] = f"shard '{found.path}' holds '{name}' twice."


def _ends_well(path: Path, offset: int) -> bool:
    """Whether a walk ended as a tar does: at a block of zeros."""
    with path.open("rb") as stream:
        stream.seek(offset)
        block = stream.read(BLOCK)
    return len(block) == BLOCK and not any(block)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except _BROKEN_HEADER as error:
        raise UserError(
            f"shard '{path}' cannot be read as a tar without compression: {foreign.said(error)}."
        ) from error
    except (OSError, EOFError) as error:
        raise UserError(f"shard '{path}' cannot be read: {foreign.said(error)}.") from error
