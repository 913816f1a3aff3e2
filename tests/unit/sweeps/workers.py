"""Several processes work on one search; the first is killed in the middle of a trial.

    python workers.py FOLDER NUM KEY=VALUE ...
Forked from a process that has imported all, so that a worker costs no imports. FOLDER/started gets a line a
trial that is begun.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from fdlab.sweeps import claims, search
from fdlab.sweeps.asked import read
from fdlab.sweeps.processes import Processes
from fdlab.sweeps.search import Worker
from fdlab.sweeps.trial import Trial
from tests.unit.sweeps.test_search import planted


def work(folder: Path, words: list[str], kills: bool) -> None:
    """One worker; `kills` ends it, with SIGKILL, in its second trial. The others leave it two: until it is
    killed none goes past the beginning of its third."""
    mine: list[str] = []
    struck, until = folder / "struck", time.monotonic() + 60

    def runner(trial: Trial) -> str:
        mine.append(trial.folder.name)
        with (folder / "started").open("a") as stream:
            stream.write(f"{trial.folder.name}\n")
        while not kills and len(mine) == 3 and not struck.exists() and time.monotonic() < until:
            time.sleep(0.05)
        if kills and len(mine) == 2:
            struck.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.05)
        return planted(trial)

    Worker(read(words)[1], Processes(1), runner).work(1)


def main(folder: Path, num: int, words: list[str]) -> list[int]:
    """Exit statuses of all workers, negative where a signal ended one."""
    claims.EVERY, claims.PATIENCE, search.LOOK = 0.2, 1.5, 0.2
    read(words)
    children = []
    for place in range(num):
        child = os.fork()
        if not child:
            work(folder, words, kills=place == 0)
            os._exit(0)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
