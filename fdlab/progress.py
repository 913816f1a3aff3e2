"""One progress bar for every long loop: rate and time left in a terminal, a line now and then in a log
file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Protocol, TypeVar

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 30.0
"""How often a loop that writes to a file says where it is. Loops shorter than this say nothing."""


class Progress(Protocol):
    """What `bar` yields."""

    def advance(self, amount: int = 1) -> None:
        """Count `amount` more as done."""

    def found(self, amount: int) -> None:
        """Count `amount` more that were done before, or by others."""

    def expect(self, total: int) -> None:
        """Say how much there is in all, where that has changed."""


class _Lines:
    """Progress for a stream that is no terminal."""

    def __init__(self, description: str, total: int | None, done: int = 0) -> None:
        self.description, self.total, self.done, self.at_start = description, total, done, done
        self.start = self.last = time.monotonic()

    def advance(self, amount: int = 1) -> None:
        self.done += amount
        now = time.monotonic()
        if now - self.last >= SECONDS_BETWEEN_LINES:
            self.last = now
            print(self.line(now - self.start), file=sys.stderr, flush=True)

    def found(self, amount: int) -> None:
        self.done += amount
        self.at_start += amount

    def expect(self, total: int) -> None:
        self.total = total

    def line(self, seconds: float) -> str:
        rate = (self.done - self.at_start) / max(seconds, 1e-9)
        if self.total is None:
            return f"{self.description}: {self.done} ({rate:.3g}/s)"
        left = format_seconds((self.total - self.done) / rate) if rate > 0 else "?"
        return f"{self.description}: {self.done}/{self.total} ({rate:.3g}/s, {left} left)"


class _Rich:
    """Progress in a terminal."""

    def __init__(self, display: object, task: object) -> None:
        self.display, self.task = display, task

    def advance(self, amount: int = 1) -> None:
        self.display.advance(self.task, amount)  # type: ignore[attr-defined]

    def found(self, amount: int) -> None:
        # The rate is that of the last seconds.
        self.advance(amount)

    def expect(self, total: int) -> None:
        self.display.update(self.task, total=total)  # type: ignore[attr-defined]


def format_seconds(seconds: float) -> str:
    """Write a duration as 42s, 3m10s or 2h05m."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}m{rest:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


@contextmanager
def bar(description: str, total: int | None = None, done: int = 0, show: bool = True) -> Iterator[Progress]:
    """Yield a progress bar to `advance`; `done` counts what an earlier run left finished (it is not in the
    rate)."""
    if not show or not sys.stderr.isatty():
        lines = _Lines(description, total, done)
        if not show:
            lines.last = float("inf")
        yield lines
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class Rate(ProgressColumn):
        """Items a second."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:.3g}/s" if speed else "", style="cyan")

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
    )
    with RichProgress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as display:
        task = display.add_task(description, total=total)
        if done:
            # Moving the start by reset keeps what was already done out of the rate.
            display.reset(task, completed=done, total=total)
        yield _Rich(display, task)


def track(
    iterable: Iterable[T], description: str = "working", total: int | None = None, show: bool = True
) -> Iterator[T]:
    """Yield from `iterable` with a progress bar. `total` defaults to its length where it has one."""
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    with bar(description, total, show=show) as progress:
        for item in iterable:
            yield item
            progress.advance()
