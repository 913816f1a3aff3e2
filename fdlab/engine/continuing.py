"""Which state a run goes on from, and what becomes of those it does not go on from: none is lost."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdlab.config.directory import is_main_process
from fdlab.engine import checkpoints
from fdlab.engine.checkpoints import BEST, LAST, Unreadable
from fdlab.engine.module import Training
from fdlab.errors import UserError

NUMBERED = re.compile(r"step-(\d+)\.ckpt")
RESULTS = (
    "checkpoints", "metrics.csv", "samples", "validation.csv", "validation", "model", "evaluation",
    "report.html", "speed.csv", "profile",
)  # fmt: skip
"""What a training leaves in its run directory."""


@dataclass(frozen=True)
class Resumed:
    """A state to go on from, and the file that held it."""

    path: Path
    state: dict[str, Any]


def numbered(folder: Path) -> list[Path]:
    """The step-N.ckpt files, oldest first."""
    found = {path: NUMBERED.fullmatch(path.name) for path in folder.glob("step-*.ckpt")}
    return sorted((path for path, name in found.items() if name), key=_number)


def newest_first(folder: Path) -> tuple[list[Path], dict[Path, Unreadable]]:
    """The readable checkpoints of a folder, that of most steps first, and the others with what is wrong."""
    steps, broken = {}, {}
    for path in (folder / LAST, *numbered(folder), folder / BEST):
        if path.is_file():
            try:
                steps[path] = checkpoints.step_of(path)
            except Unreadable as error:
                broken[path] = error
    return sorted(steps, key=lambda path: -steps[path]), broken


def find_checkpoint(folder: Path, resume: str) -> Path | None:
    """Checkpoint that `resume` (auto, never or a path) means for a run directory; None: start anew.

    Raises UserError where a given path is not there, or nothing that is there can be read.
    """
    if resume == "never":
        return None
    if resume != "auto":
        path = Path(resume).expanduser()
        found = find_checkpoint(path, "auto") if path.is_dir() else path if path.is_file() else None
        if found is None:
            raise UserError(
                f"resume={resume}: no checkpoint there; give a .ckpt file or a run directory, auto or never."
            )
        return found
    good, broken = newest_first(Path(folder) / "checkpoints")
    if broken and not good:
        raise _nothing_readable(folder, next(iter(broken.values())))
    return good[0] if good else None


def resume_from(module: Training, folder: Path, resume: str) -> Resumed | None:
    """Read what `find_checkpoint` means; of a run directory the newest state that can be read, and say so.

    Raises: UserError (see `find_checkpoint` and `checkpoints.read_for`).
    """
    path = find_checkpoint(folder, resume)
    if path is None or (resume != "auto" and not Path(resume).expanduser().is_dir()):
        return None if path is None else Resumed(path, read(module, path))
    good, broken = newest_first(path.parent)
    for one in good:
        try:
            found = Resumed(one, _read(module, one))
        except Unreadable as error:
            broken[one] = error
            continue
        if one.name != LAST:
            missing = "last.ckpt is older" if path.with_name(LAST).is_file() else "last.ckpt is missing"
            reason = str(next(iter(broken.values()), missing)).rstrip(".")
            tell(f"going on from '{one}' (step {found.state['step']}): {reason}.")
        return found
    raise _nothing_readable(path.parent.parent, next(iter(broken.values())))


def read(module: Training, path: Path) -> dict[str, Any]:
    """Read a checkpoint that goes on with `module`. Raises: UserError, naming another to take, if any."""
    try:
        return _read(module, path)
    except Unreadable as error:
        others = [other for other in newest_first(path.parent)[0] if other != path]
        if not others:
            raise
        raise UserError(f"{error} Beside it '{others[0]}' can be read: resume={others[0]}.") from None


def _read(module: Training, path: Path) -> dict[str, Any]:
    # Eight processes need not hold eight copies; the first reads its own, which nothing can cut short.
    return checkpoints.read_for(module, path, mapped=not is_main_process())


def make_room(folder: Path, resumed: Resumed | None) -> None:
    """Before a training writes to its run directory: move what it does not go on from to before-N.

    A start anew moves all results of an earlier training; one from a state of this directory only the
    checkpoints of later steps.
    """
    if not is_main_process():
        return
    states = folder / "checkpoints"
    if resumed is not None and resumed.path.parent.resolve() == states.resolve():
        later = [path for path in numbered(states) if _number(path) > resumed.state["step"]]
        _move(folder, later, f"of later steps than {resumed.path.name}")
    elif any(states.glob("*.ckpt")) or (folder / "model").exists():
        found = [folder / name for name in RESULTS if (folder / name).exists()]
        _move(folder, found, "of an earlier training")


def tell(line: str) -> None:
    """Say something on the first process."""
    if is_main_process():
        print(line, file=sys.stderr, flush=True)


def _move(folder: Path, paths: list[Path], what: str) -> None:
    if not paths:
        return
    number = 1
    while (place := folder / f"before-{number}").exists():
        number += 1
    for path in paths:
        target = place / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    tell(f"{', '.join(path.name for path in paths)} {what}: moved to '{place}'.")


def _nothing_readable(folder: Path, error: Unreadable) -> UserError:
    reason = str(error).rstrip(".")
    return UserError(
        f"no checkpoint in '{folder}' can be read ({reason}); resume=never starts anew in a new directory."
    )


def _number(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))
