"""What scoring costs, part by part, and beside drawing.

    OMP_NUM_THREADS=2 python experiments/metrics/speed.py FOLDER [--num 400] [--size 512] [--draw 8]
FOLDER holds what run.py rendered; its pictures are scaled up. Wall time counts what else the machine does;
processor time (all threads) hardly does.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from fdlab.benchmarks import jobs
from fdlab.data import pictures
from fdlab.evaluation import measuring, rows
from fdlab.measure import choose as loading
from fdlab.measure.faces import by_size
from fdlab.measure.networks import Extractors

SETS = ("drawn", "real", "portraits")


def upscaled(folder: Path, target: Path, num: int, size: int) -> list[Path]:
    """`num` different rendered pictures, scaled to `size`, as PNG."""
    found = [path for name in SETS for path in sorted(folder.glob(f"people_single/{name}/*.png"))]
    if len(found) < num:
        raise SystemExit(f"'{folder}' holds {len(found)} pictures, not {num}; run run.py --folder first")
    paths = []
    for number, path in enumerate(found[:num]):
        paths.append(target / f"{number:04d}.png")
        with Image.open(path) as image:
            image.resize((size, size), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


def timed(work: Callable[[], Any], num: int) -> tuple[float, float]:
    """Wall and processor milliseconds a picture."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return (time.perf_counter() - wall) * 1e3 / num, (time.process_time() - cpu) * 1e3 / num


def parts(paths: Sequence[Path], extractors: Extractors) -> None:
    """Each extractor alone, on pictures in memory."""
    images = pictures.read_images(paths)
    faces = extractors.faces
    assert faces and extractors.clip and extractors.features and extractors.judge
    chosen = [by_size(found)[:1] for found in faces.detect(images)]
    shown = [n for n, some in enumerate(chosen) if some]
    parted = [images[k : k + 32] for k in range(0, len(images), 32)]
    works: dict[str, Callable[[], Any]] = {
        "read": lambda: pictures.read_images(paths),
        "detect": lambda: [faces.detect(some) for some in parted],
        "embed": lambda: faces.embed(images[shown], [chosen[n][0] for n in shown]),
        "clip": lambda: [extractors.clip(some) for some in parted],  # type: ignore[misc]
        "judge": lambda: [extractors.judge(some) for some in parted],  # type: ignore[misc]
        "features": lambda: [extractors.features(some) for some in parted],  # type: ignore[misc]
    }
    for name, work in works.items():
        wall, cpu = timed(work, len(paths))
        print(f"  {name:<20} {wall:6.1f} wall {cpu:6.1f} processor ms a picture", flush=True)


def drawing(num: int, cache: Path) -> tuple[float, float]:
    """Nano's three-stage sampling in 50 steps, milliseconds a picture."""
    from fdlab.benchmarks.choice import BenchmarkSettings
    from fdlab.config.compose import compose
    from fdlab.evaluation.settings import MethodSettings

    cfg = compose(
        ["sampler=snf_test", "sampler.num_steps=50", "benchmark.baselines=false", f"paths.cache={cache}",
         "benchmark.max_subjects=4", "benchmark.max_prompts=4", "trainer.accelerator=cpu"],
        config_name="evaluate",
    )  # fmt: skip
    bench = BenchmarkSettings.read(cfg.benchmark).open()
    method = rows.standard(MethodSettings.read(cfg), bench, Path("nowhere"), "cpu")[-1].make()
    todo = jobs.jobs(bench)[:num]
    method(todo[:1])
    return timed(lambda: method(todo), len(todo))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--num", type=int, default=400)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--draw", type=int, default=8, help="pictures that nano draws, in one batch")
    given = parser.parse_args()
    extractors = loading.shipped()
    print(f"threads {os.environ.get('OMP_NUM_THREADS')}, load before {os.getloadavg()[0]:.1f}")
    for size, num in ((given.size, given.num), (128, min(given.num, 128))):
        with tempfile.TemporaryDirectory() as folder:
            paths = upscaled(given.folder, Path(folder), num, size)
            measuring.measure(paths[:32], extractors, size, show=False)
            wall, cpu = timed(lambda p=paths, s=size: measuring.measure(p, extractors, s, show=False), num)
            print(f"scoring {num} pictures of {size} px: {wall:.1f} wall, {cpu:.1f} processor ms a picture")
            print(f"  2,400 pictures: {2.4 * wall / 60:.1f} min", flush=True)
            parts(paths[:64], extractors)
    wall, cpu = drawing(given.draw, Path(os.environ.get("FDLAB_CACHE", "cache")))
    print(f"drawing {given.draw} pictures of 128 px, 50 steps: {wall:.0f} wall, {cpu:.0f} processor ms each")
    print(f"load after {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
