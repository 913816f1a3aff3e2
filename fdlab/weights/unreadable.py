"""What a file that holds no readable weights is instead, in one line."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from zipfile import BadZipFile, is_zipfile

from safetensors import SafetensorError

from fdlab.errors import UserError, nearest
from fdlab.weights.formats import one_line

LFS = b"version https://git-lfs"
ZIP = b"PK\x03\x04"
"""How torch's files begin; their list of contents stands at the end."""
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
"""How torch names a class or function that it does not unpickle."""
_LOOKED_AT = 512
_LARGEST_HEADER = 100_000_000
"""Bytes; safetensors reads none that is larger."""
_SHOWN = 30


def not_there(given: Path | str, wanted: str = "") -> UserError:
    """Make the error for a path that leads nowhere: what is `wanted` there, and the nearest name beside
    it."""
    path = Path(given).expanduser()
    try:
        names = [each.name for each in path.parent.iterdir() if not each.name.startswith(".")]
    except OSError:
        names = []
    guess = nearest(path.name, names)
    hint = f" Did you mean '{path.with_name(guess)}'?" if guess else ""
    return UserError(f"'{given}' does not exist{f'; give {wanted}' if wanted else ''}.{hint}")


def unreadable(file: Path, error: Exception) -> UserError:
    """Make the error for weights that a library failed to read by `error`."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            begin = stream.read(_LOOKED_AT)
    except OSError as reason:
        return UserError(f"'{file}' cannot be read: {reason.strerror}.")
    if not size:
        return UserError(f"'{file}' is empty; copy or download it again.")
    if begin.startswith(LFS):
        return UserError(f"'{file}' is a git-lfs pointer, not the weights; run `git lfs pull` there.")
    if (words := _as_text(begin)) is not None:
        page = words.lower().startswith(("<!doctype", "<html"))
        what = "a web page, not the weights" if page else "text, not weights"
        return UserError(f"'{file}' is {what}: it begins '{words}'; download it again.")
    if isinstance(error, OSError):
        return UserError(f"'{file}' cannot be read: {error.strerror or one_line(error)}.")
    if file.suffix == ".safetensors" and begin.startswith(ZIP):
        return UserError(f"'{file}' is no safetensors but torch's own format; name it .ckpt.")
    if file.suffix == ".safetensors" and (whole := _bytes_promised(file)) > size:
        return UserError(f"'{file}' is cut short: {size:,} of its {whole:,} bytes are here; copy it again.")
    if begin.startswith(ZIP) and not _has_end(file):
        return UserError(f"'{file}' is cut short: its end is missing; copy it again.")
    if isinstance(error, pickle.UnpicklingError):
        named = _GLOBAL.search(str(error))
        return UserError(
            f"'{file}' is corrupt, or holds more than tensors{f' ({named[1]})' if named else ''}, and nothing"
            " else is unpickled; take it as safetensors, or save its state dict so."
        )
    # What a damaged pickle trips over (KeyError: 101) tells nobody anything.
    says = f" ({one_line(error)})" if isinstance(error, SafetensorError | RuntimeError | ValueError) else ""
    return UserError(f"'{file}' is corrupt or cut short{says}; copy it again.")


def _as_text(begin: bytes) -> str | None:
    """The first words of what is a text; None for anything else."""
    try:
        # The last character may be cut.
        words = begin.decode("utf-8", "strict" if len(begin) < _LOOKED_AT else "ignore")
    except UnicodeDecodeError:
        return None
    if not all(c.isprintable() or c.isspace() for c in words):
        return None
    line = " ".join(words.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."


def _has_end(file: Path) -> bool:
    """Whether an archive's end is there, whatever it says."""
    try:
        return is_zipfile(file)
    except BadZipFile:
        return True


def _bytes_promised(file: Path) -> int:
    """How long a safetensors file says that it is; 0 where it does not say so."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > _LARGEST_HEADER:
            return 0
        header = stream.read(length)
    if len(header) < length:
        return 8 + length
    try:
        listed = json.loads(header)
        return (
            8 + length + max(entry["data_offsets"][1] for entry in listed.values() if "data_offsets" in entry)
        )
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return 0
