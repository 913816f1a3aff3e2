"""SIGTERM and Ctrl-C as a wish: a training ends its step, saves, and leaves with a status that says so."""

from __future__ import annotations

import signal
from types import FrameType

UNFINISHED = 75
"""What the scripts here exit with when they were told to stop: run again to go on."""
SAID = "stopped; run the same command to go on"


class WhenAsked:
    """`asked` is true once a signal came; a second signal ends the process at once."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(number, signal.SIG_DFL)


def leave(finished: bool) -> None:
    """Say how a training ended; raises SystemExit where it was stopped."""
    print("finished" if finished else SAID, flush=True)
    if not finished:
        raise SystemExit(UNFINISHED)
