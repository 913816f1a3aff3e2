"""One zip file of known content: written the same bytes every time, read as if an enemy had written it.

Nothing is unpacked whose name, kind, size or number is not what a submission holds: no path out of the
folder, no link, no folder, no name twice, nothing encrypted, and not more bytes than the archive says and the
limits allow, however well they are packed.
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from fdlab.errors import UserError
from fdlab.files import whole
from fdlab.foreign import said, shown

PICTURES = "images/"
MOST_FILES = 200_000
MOST_BYTES = 8 << 30
"""Of the archive, and of all that it holds."""
MOST_TEXT, MOST_PICTURE = 1 << 29, 64 << 20
"""Of one file that is no picture, and of one that is."""
MOST_TIMES = 200
"""A file may be so many times as large as it is packed; text of records is about ten times."""
_SMALL = 1 << 20
"""Smaller ones may be packed better."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
_CHUNK = 1 << 20


def write(path: Path, files: Mapping[str, Path | bytes]) -> None:
    """Pack files under their names, sorted, without times: the same content is the same archive."""
    with whole(path) as temporary, zipfile.ZipFile(temporary, "w") as packed:
        for name in sorted(files):
            source = files[name]
            data = source if isinstance(source, bytes) else source.read_bytes()
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr, info.create_system = 0o644 << 16, 3
            # Pictures are packed already.
            info.compress_type = zipfile.ZIP_STORED if name.startswith(PICTURES) else zipfile.ZIP_DEFLATED
            packed.writestr(info, data)


def unpack(path: Path, folder: Path, known: Sequence[str]) -> list[str]:
    """Unpack an archive of files that are `known`, and of pictures, into an empty folder; returns their
    names.

    Raises: UserError for the first thing that no such archive holds, before anything of it is written.
    """
    if not path.is_file():
        raise UserError(f"no archive '{path}'.")
    if path.stat().st_size > MOST_BYTES:
        raise UserError(f"'{path}' has more than {MOST_BYTES:,} bytes.")
    try:
        with zipfile.ZipFile(path) as packed:
            members = packed.infolist()
            _check(path, members, known)
            left = MOST_BYTES
            for member in members:
                left -= _unpack_one(path, packed, member, folder / member.filename, left)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:
        raise UserError(f"'{path}' is no zip file that can be read: {said(error)}.") from error
    return [member.filename for member in members]


def _check(path: Path, members: Sequence[zipfile.ZipInfo], known: Sequence[str]) -> None:
    if len(members) > MOST_FILES:
        raise UserError(f"'{path}' holds {len(members):,} files; allowed: {MOST_FILES:,}.")
    seen: set[str] = set()
    for member in members:
        problem = _problem(member, known)
        if problem is None and member.filename in seen:
            problem = "stands there twice"
        if problem is not None:
            raise UserError(f"'{path}' is no submission: {shown(member.orig_filename)} {problem}.")
        seen.add(member.filename)
    # Entries that share their bytes would unpack to far more than there is.
    if sum(member.compress_size for member in members) > path.stat().st_size:
        raise UserError(f"'{path}' is no submission: its files overlap.")
    if sum(member.file_size for member in members) > MOST_BYTES:
        raise UserError(f"'{path}' holds more than {MOST_BYTES:,} bytes.")


def _problem(member: zipfile.ZipInfo, known: Sequence[str]) -> str | None:
    """Why a member may not be unpacked."""
    name = member.orig_filename
    picture = name.startswith(PICTURES) and is_picture_name(name.removeprefix(PICTURES))
    if name != member.filename or not (name in known or picture):
        return "is no file of a submission"
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG) or member.is_dir():
        return "is a link or a folder"
    if member.flag_bits & 0x1:
        return "is encrypted"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is packed in an unusual way"
    if picture and not member.file_size:
        return "is empty"
    most = MOST_PICTURE if picture else MOST_TEXT
    if member.file_size > most:
        return f"has {member.file_size:,} bytes; allowed: {most:,}"
    if member.file_size > max(_SMALL, MOST_TIMES * member.compress_size):
        return f"unpacks to more than {MOST_TIMES} times its size"
    return None


def is_picture_name(name: str) -> bool:
    """Whether a name is that of a picture in a folder: no path, nothing hidden, a PNG."""
    plain = name.isprintable() and not any(c in name for c in '/\\:*?"<>|') and not name.startswith(".")
    return plain and name.endswith(".png") and len(name.encode()) <= 255


def _unpack_one(path: Path, packed: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, left: int) -> int:
    """Write one file, counting what really comes out of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    most = min(member.file_size, left)
    with packed.open(member) as source, target.open("xb") as sink:
        written = _copy(source, sink, most)
    if written != member.file_size:
        raise UserError(
            f"'{path}' is no submission: {shown(member.filename)} is larger or smaller than it says."
        )
    return written


def _copy(source: IO[bytes], sink: IO[bytes], most: int) -> int:
    written = 0
    while chunk := source.read(_CHUNK):
        written += len(chunk)
        if written > most:
            return written
        sink.write(chunk)
    return written
