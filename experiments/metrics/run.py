"""Do the metrics order pictures as they should? Render people, spoil the pictures in levels, score, compare.

    OMP_NUM_THREADS=2 python experiments/metrics/run.py [--folder DIR]
Writes results.json and orders.png beside this file and prints the tables of README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import faults
import figure
import verdicts
import worlds
from pool import Pool, scored, spoilt

from fdlab.benchmarks.jobs import jobs
from fdlab.evaluation import measuring
from fdlab.files import write_json
from fdlab.measure import choose as loading
from fdlab.measure.networks import Extractors

HERE = Path(__file__).parent


def run(world: worlds.World, folder: Path, extractors: Extractors, workers: int) -> dict[str, Any]:
    """Every fault of one world, level by level."""
    bench = worlds.make(world, folder, workers=workers)
    todo = jobs(bench)
    known = measuring.references(bench, extractors)
    pool = Pool(bench, extractors, {})
    for name in world.sets:
        if name != worlds.TRUE:
            pool.add(name, worlds.paths(bench, name))
    if world.size == 1:
        pool.add(faults.REFERENCE, [bench.folder / subject.references[0] for subject in bench.subjects])
        wanted = [*faults.pixels(), *faults.single(world, bench, todo)]
    else:
        wanted = faults.pairs(world, bench, todo)
    none = scored(bench, todo, pool.sets[worlds.DRAWN], known, extractors)
    results = []
    for fault in wanted:
        levels = [none]
        if fault.base:
            levels = [scored(bench, todo, pool.take(fault.base(0.0)), known, extractors)]
        for level in fault.levels:
            if fault.change:
                name = f"{fault.name} {level:g}"
                pool.add(name, spoilt(bench, todo, fault, level))
                measured = pool.sets[name]
            else:
                assert fault.choice
                measured = pool.take(fault.choice(level))
            levels.append(scored(bench, todo, measured, known, extractors))
        results.append(verdicts.entry(fault, levels))
    return {
        "benchmark": {**bench.summary(), "pictures": len(todo)},
        "faults": results,
    }


def main() -> None:
    """Render, spoil, score, judge, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cache = Path(os.environ.get("FDLAB_CACHE", "cache"))
    parser.add_argument("--folder", type=Path, default=cache / "metrics", help="where pictures go")
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    parser.add_argument("--draw-only", action="store_true", help="draw and print from results.json again")
    given = parser.parse_args()
    if not given.draw_only:
        start = time.perf_counter()
        extractors = loading.shipped()
        found = {
            world.name: run(world, given.folder / world.name, extractors, given.workers)
            for world in (worlds.SINGLE, worlds.PAIRS)
        }
        seconds = time.perf_counter() - start
        write_json(
            HERE / "results.json",
            {"seconds": round(seconds), "extractors": extractors.summary(), "worlds": found},
        )
    results = json.loads((HERE / "results.json").read_text())
    figure.draw(results, HERE / "orders.png")
    print(verdicts.tables(results))


if __name__ == "__main__":
    main()
