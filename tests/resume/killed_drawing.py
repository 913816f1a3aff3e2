"""Draw a benchmark of squares in children that are killed, and once without; print what became of it as JSON.

    python killed_drawing.py FOLDER
A child is forked from a process that has computed nothing, so that a round costs no imports.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from PIL import Image

from fdlab.benchmarks import benchmark as benchmarks
from fdlab.benchmarks import jobs
from fdlab.evaluation import generation
from tests.worlds import squares

KILLS = 10
SIDE = 96


def draw(world: ModuleType, bench: benchmarks.Benchmark, folder: Path, first: Callable[[], None]) -> int:
    """Fork and draw; the child's process id."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            first()
            generation.generate(jobs.jobs(bench), world.Painter(size=SIDE), folder, batch_size=3, show=False)
            status = 0
        finally:
            os._exit(status)
    return child


def while_writing() -> None:
    """Let the child kill itself with half of its third picture written."""
    save, written = Image.Image.save, []

    def half(self: Image.Image, path: Path, **options: object) -> None:
        save(self, path, **options)
        written.append(path)
        if len(written) == 3:
            data = path.read_bytes()
            path.write_bytes(data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)

    Image.Image.save = half  # type: ignore[assignment, method-assign]


def whole(folder: Path, expected: Path) -> list[str]:
    """Names of the pictures that are not, to the last byte, what an undisturbed run drew."""
    wrong = []
    for path in sorted(folder.glob("*.png")):
        if path.read_bytes() != (expected / path.name).read_bytes():
            wrong.append(path.name)
    return wrong


def main() -> None:
    root = Path(sys.argv[1])
    world = squares
    world.write_benchmark(root / "bench", size=SIDE)
    bench = benchmarks.load(root / "bench")
    os.waitpid(draw(world, bench, root / "whole", lambda: None), 0)
    chance, folder = random.Random(0), root / "killed"
    killed, progress, wrong = [], [], []
    for round_ in range(KILLS):
        if round_ == KILLS // 2:
            child = draw(world, bench, folder, while_writing)
        else:
            child = draw(world, bench, folder, lambda: None)
            # At any moment, but with a picture or two drawn on any machine.
            before, wanted = len(list(folder.glob("*.png"))), chance.randrange(3)
            while len(list(folder.glob("*.png"))) < before + wanted:
                time.sleep(0.0005)
            time.sleep(chance.uniform(0, 0.004))
            os.kill(child, signal.SIGKILL)
        killed.append(os.WIFSIGNALED(os.waitpid(child, 0)[1]))
        progress.append(len(list(folder.glob("*.png"))))
        wrong += whole(folder, root / "whole")
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.png")}
    end = os.waitpid(draw(world, bench, folder, lambda: None), 0)[1]
    drawn_again = [name for name, when in kept.items() if (folder / name).stat().st_mtime_ns != when]
    print(
        json.dumps(
            {
                "killed": killed,
                "progress": progress,
                "wrong": wrong + whole(folder, root / "whole"),
                "end": end,
                "drawn_again": drawn_again,
                "files": [
                    sorted(path.name for path in place.iterdir()) for place in (folder, root / "whole")
                ],
            }
        )
    )


if __name__ == "__main__":
    main()
