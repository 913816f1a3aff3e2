"""`-m` of `train` and `evaluate`: a run for every combination of the values given."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fdlab.errors import UserError

if TYPE_CHECKING:
    from fdlab.sweeps.trial import Verb

ONLY_OF_MANY = ("jobs", "launcher")
HELP = "a process for every combination of a,b,c; jobs=N runs N at once"


def main(overrides: Sequence[str], verb: Verb, only_show: bool) -> int:
    """Run a grid, or say what it would run; returns the exit status."""
    from fdlab.sweeps import driver, grid, launchers

    words, jobs = grid.split_jobs(overrides)
    words, launcher = launchers.split(words)
    trials = grid.plan(words, verb)
    runs = launchers.make(launcher, jobs, trials[0].folder.parent / "jobs")
    if only_show:
        for trial in trials:
            print(" ".join(trial.overrides), "->", trial.folder)
        return 0
    outcomes = driver.run(trials, jobs=jobs, launcher=runs)
    show_table("grid", *grid.table(outcomes))
    failed = [outcome for outcome in outcomes if outcome.error]
    for outcome in failed:
        print(f"failed: {outcome.trial.words}: {outcome.error}")
    print(f"{len(outcomes) - len(failed)} of {len(outcomes)} trials done, {len(failed)} failed")
    if any(trial.shard for trial in trials) and not failed:
        print("drawn; when all shares are there, score them: the same command without shard=")
    return 1 if failed else 0


def refuse_alone(overrides: Sequence[str]) -> None:
    """Raises: UserError for what only a grid or a search takes, where one run is asked for."""
    for word in overrides:
        key = word.partition("=")[0].lstrip("+").partition(".")[0]
        if key in ONLY_OF_MANY:
            raise UserError(f"{word}: {key} is a choice of many runs: add -m, or take `fdlab sweep`.")


def show_table(title: str, header: list[str], rows: list[list[str]]) -> None:
    """Print a table: to the terminal, folded to its width; or plain, which a thousand lines bear."""
    from fdlab import escape

    if not sys.stdout.isatty():
        rows = [[escape.visible(cell) for cell in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        print(title)
        for row in (header, *rows):
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        return
    from rich.console import Console
    from rich.table import Table

    shown: Any = Table(title=title)
    for name in header:
        shown.add_column(name, overflow="fold")
    for row in rows:
        shown.add_row(*(escape.terminal(cell) for cell in row))
    Console().print(shown)
