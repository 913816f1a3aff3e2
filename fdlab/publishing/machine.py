"""What of a run is the machine's own that made it: left out of what is published."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

_PATHS = "paths."
_HOME = re.compile(r"(?<![\w.~-])(?:/home/[^/\s]+|/Users/[^/\s]+|/root)(?=/|$)")
"""A home folder at the head of a path, anybody's: boards hold runs of many machines."""


def settings(config: Mapping[str, str]) -> dict[str, str]:
    """A configuration's settings, dotted, without the machine's folders: what lies in one of them is named by
    its key (${paths.cache}/people), what lies in a home folder by ~."""
    own = {key: value for key, value in config.items() if key.startswith(_PATHS)}
    folders = {value: key for key, value in own.items() if value.startswith("/")}
    longest = sorted(folders, key=len, reverse=True)

    def portable(value: str) -> str:
        for folder in longest:
            if value == folder or value.startswith(f"{folder.rstrip('/')}/"):
                return f"${{{folders[folder]}}}{value[len(folder.rstrip('/')) :]}"
        return _HOME.sub("~", value)

    return {key: portable(value) for key, value in config.items() if key not in own}


def command(typed: Sequence[str]) -> str:
    """A command as it was typed, for a shell, without where its runs and its cache went."""
    return shlex.join(_HOME.sub("~", word) for word in typed if not word.startswith(_PATHS))
