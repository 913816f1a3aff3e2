"""The command line: `python -m fdlab VERB ...`.

A table of verbs; each is a module with `main(argv) -> exit status`.
"""

from __future__ import annotations

import errno
import importlib
import os
import shlex
import signal
import sys
import textwrap
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fdlab import __version__
from fdlab.errors import EndedElsewhere, Failure, UserError, unknown
from fdlab.escape import without_password
from fdlab.memory import keep_freed

VERBS = {
    "train": "fine-tune, then sample and evaluate, then write the record; -m for a grid",
    "sample": "draw given people in a new scene",
    "demo": "a page to play with the method, in the browser",
    "evaluate": "score models on a benchmark; -m for a grid",
    "sweep": "search settings by what their runs' records say; status, best, stop",
    "leaderboard": "records as ranked tables and a page; diff, submit, verify, card",
    "data": "render people, check or count pictures, make a benchmark of photos",
    "checkpoint": "import, export or look at weights",
    "doctor": "versions, devices, weights found, what is missing and how to get it",
}
"""What each verb does; `fdlab/cli/<verb>.py` does it."""

ERROR_FILE = "FDLAB_ERROR_FILE"
"""Environment variable of a grid's trial: where it leaves the one line that says why it failed."""

ELSEWHERE = "paths.runs=DIR paths.cache=DIR (or FDLAB_RUNS, FDLAB_CACHE)"
_FOLDER_REFUSES = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
)
"""What a folder answers that cannot be used: read-only, full, another's, or none at all."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0 done, 1 failed, 2 the user's input is wrong, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if argv is None:
        keep_freed()
    try:
        with _terminable():
            return _run(arguments)
    except UserError as error:
        return _refuse(" ".join(str(error).split()))
    except EndedElsewhere as ended:
        return ended.status
    except Failure as failure:
        return _refuse(" ".join(str(failure).split()), status=1)
    except KeyboardInterrupt as interrupt:
        if argv is None and _in_main_thread():
            # What comes while the interpreter ends has nothing left to save.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
        why, again = (
            f" ({interrupt})" if str(interrupt) else "",
            f"python -m fdlab {without_password(shlex.join(arguments))}",
        )
        print(
            f"\ninterrupted{why}; the same command goes on where this one stopped: {again}", file=sys.stderr
        )
        return 130
    except BrokenPipeError:
        # Whoever read the output has seen enough, as in `... | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in _FOLDER_REFUSES:
            _leave(f"{type(error).__name__}: {error}")
            raise
        where = f" '{error.filename}'" if error.filename else ""
        rights = "see to its rights, or " if error.errno in (errno.EACCES, errno.EPERM) else ""
        hint = f"{rights}choose another folder, as in {ELSEWHERE}"
        return _refuse(f"cannot use{where}: {error.strerror}; {hint}.")
    except Exception as error:
        _leave(f"{type(error).__name__}: {error}")
        raise


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does: in one line, with all kept that was made."""
    if not _in_main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _in_main_thread() -> bool:
    """Python lets no other thread set handlers."""
    return threading.current_thread() is threading.main_thread()


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"fdlab {__version__}")
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        raise unknown("command", verb, VERBS)
    return int(importlib.import_module(f"fdlab.cli.{verb}").main(rest) or 0)


def usage() -> str:
    """The text of `--help`."""
    lines = "\n".join(f"  {verb:<12}{what}" for verb, what in VERBS.items())
    return textwrap.dedent("""\
        usage: python -m fdlab COMMAND [--help] ...

        {lines}

        Start with: python -m fdlab train +exp=sdm
        Exit status: 0 done, 1 failed, 2 the input is wrong.""").format(lines=lines)


def _refuse(line: str, status: int = 2) -> int:
    print(f"error: {line}", file=sys.stderr)
    _leave(f"error: {line}")
    return status


def _leave(line: str) -> None:
    if os.environ.get(ERROR_FILE):
        Path(os.environ[ERROR_FILE]).write_text(" ".join(line.split()) + "\n")


if __name__ == "__main__":
    sys.exit(main())
