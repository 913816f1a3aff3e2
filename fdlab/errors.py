"""The error a user can cause, and the search for what they meant; and the failure of work itself."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from fdlab.escape import visible

_LONGEST = 100
"""Characters of a given name that a message repeats."""


class UserError(ValueError):
    """The user's input is wrong: one line that says what was given and what is allowed. Exit status 2.

    What is given may hold anything: control characters and line ends are shown as escapes.
    """

    def __init__(self, message: object) -> None:
        super().__init__(visible(str(message)))


class Failure(RuntimeError):
    """The work failed though its input is right: one line that says where, and what to do. Exit status 1."""


class EndedElsewhere(Failure):
    """Another of the processes that work together failed, and said why; this one ends with its status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"another process ended with status {status}")
        self.status = status


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return the choice most like `word`, or "" when nothing is close."""
    found = difflib.get_close_matches(word, [str(choice) for choice in choices], n=1, cutoff=0.5)
    return found[0] if found else ""


def unknown(kind: str, given: str, choices: Iterable[str]) -> UserError:
    """Make the error for a name that is not among the allowed ones, with the nearest match."""
    names = sorted(str(choice) for choice in choices)
    guess = nearest(given, names)
    given = given if len(given) <= _LONGEST else f"{given[:_LONGEST]}..."
    hint = f" Did you mean '{guess}'?" if guess else ""
    return UserError(f"unknown {kind} '{given}'; allowed: {', '.join(names)}.{hint}")
