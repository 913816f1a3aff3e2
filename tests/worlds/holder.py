"""Another process that holds a lock."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def held(folder: Path, how: str = "running") -> Iterator[int]:
    """Let another process hold `lock.running(folder)` (or `lock.exclusive`); yields its number."""
    script = "import sys, pathlib; from fdlab import lock; how, folder, *more = sys.argv[1:]\n"
    script += (
        "with getattr(lock, how)(pathlib.Path(folder), *map(bool, more)): print('', flush=True); input()"
    )
    name, *more = how.split()
    command = [sys.executable, "-c", script, name, str(folder), *more]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2]
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"\n"
        try:
            yield process.pid
        finally:
            process.kill()
