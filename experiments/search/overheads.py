"""What a search costs beside its trials: start-up, orchestration, and looking at a thousand trials.

    python experiments/search/overheads.py [OUT]     # ten minutes on one core; prints a table

`FDLAB_CACHE` should hold the validation people already. PostgreSQL is measured where it is installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fdlab.evaluation.generation import STAMP
from fdlab.files import write_json
from fdlab.sweeps import driver, grid, page
from fdlab.sweeps.asked import read
from fdlab.sweeps.processes import Processes
from fdlab.sweeps.search import Worker
from fdlab.sweeps.study import BEGUN, FOLDER, INTERVALS
from fdlab.sweeps.trial import Trial
from tests.worlds.databases import postgresql
from tests.worlds.records import example

NUM, SHOWN = 100, 1_000
SPACE = ("sampler.alpha=interval(0.0,0.5)", "sampler.guidance_scale=interval(1,9)")
SMALL = (
    "benchmark=people_validation", "benchmark.max_subjects=2", "benchmark.max_prompts=2",
    "benchmark.max_images=1", "benchmark.baselines=false", "sampler.num_steps=2",
)  # fmt: skip


def no_op(trial: Trial) -> str:
    """Leave a record and nothing else."""
    write_json(trial.folder / "evaluation" / "record.json", example(auc=0.5 + len(trial.folder.name) / 1000))
    return ""


def start_up(out: Path) -> tuple[float, float]:
    """Seconds until an evaluation's models are loaded and its first picture begun, and those of the
    processor."""
    command = [sys.executable, "-m", "fdlab", "evaluate", *SMALL, f"paths.runs={out / 'start'}"]
    begun, first, used = time.perf_counter(), None, 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if first is None and list((out / "start").rglob(STAMP)):
                first = time.perf_counter() - begun
                ticks = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
                used = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
            time.sleep(0.05)
    if process.returncode or first is None:
        raise SystemExit(f"the evaluation failed: {' '.join(command)}")
    return first, used


def of_grid(out: Path) -> float:
    """Seconds a trial of a grid."""
    begun = time.perf_counter()
    seeds = ",".join(map(str, range(NUM)))
    driver.run(grid.plan([f"seed={seeds}", f"paths.runs={out / 'grid'}"], "evaluate"), no_op)
    return (time.perf_counter() - begun) / NUM


def of_search(out: Path, *words: str) -> float:
    """Seconds a trial of a search."""
    begun = time.perf_counter()
    study = read([*SPACE, f"sweep.trials={NUM}", f"paths.runs={out / 'search'}", *words])[1]
    Worker(study, Processes(1), no_op).work(1)
    return (time.perf_counter() - begun) / NUM


def status(out: Path, *words: str) -> str:
    """Seconds of `sweep status` on many trials, and those of the processor, in words."""
    import optuna

    asked = [*SPACE, "sweep=random", f"sweep.trials={SHOWN}", f"paths.runs={out / 'status'}", *words]
    study = read(asked)[1].open()
    number = optuna.distributions.FloatDistribution
    distributions = {"sampler.alpha": number(0, 0.5), "sampler.guidance_scale": number(1, 9)}
    attributes: dict[str, Any] = {FOLDER: str(out / "evaluate" / "seed0_sampler"), BEGUN: 1}
    attributes[INTERVALS] = {"identity_auc": [0.4, 0.9]}
    study.optuna.add_trials(
        optuna.trial.create_trial(
            params={"sampler.alpha": n / SHOWN / 2, "sampler.guidance_scale": 1 + 8 * n / SHOWN},
            distributions=distributions,
            value=0.5 + n % 37 / 100,
            user_attrs=attributes,
        )
        for n in range(SHOWN)
    )
    # The workers keep the page; without one the first look would draw it.
    page.write(study)
    command = [sys.executable, "-m", "fdlab", "sweep", "status", *asked]
    begun, before = time.perf_counter(), os.times()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    took, after = time.perf_counter() - begun, os.times()
    used = after.children_user - before.children_user + after.children_system - before.children_system
    return f"{took:.2f} s, {used:.2f} s of them computing"


def main(arguments: Sequence[str]) -> int:
    """Print a line a measure; returns the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(arguments[0] if arguments else folder)
        first, used = start_up(out)
        say(f"an evaluation begins to draw after {first:.1f} s, {used:.1f} s of them computing")
        say(f"grid: {of_grid(out):.2f} s a trial")
        for sampler in ("random", "tpe"):
            say(f"search, {sampler}: {of_search(out / sampler, f'sweep={sampler}'):.2f} s a trial")
        say(f"status of {SHOWN}, journal: {status(out)}")
        with postgresql() as where:
            kept = f"sweep.storage={where}"
            say(f"search, postgresql: {of_search(out / 'database', kept, 'sweep.name=many'):.2f} s a trial")
            say(f"status of {SHOWN}, postgresql: {status(out / 'database', kept)}")
        say(f"load {os.getloadavg()[0]:.1f}, {len(os.sched_getaffinity(0))} cores")
    return 0


def say(line: str) -> None:
    """Print at once."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
