"""`fdlab evaluate`: draw a benchmark with models that exist already, and score them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fdlab.cli import grid
from fdlab.cli.options import configurable, print_config

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from fdlab.benchmarks.benchmark import Benchmark

EXAMPLE = """python -m fdlab evaluate benchmark=people_single sampler=snf_demo tdm=shipped sdm=runs/sdm/seed0
         python -m fdlab evaluate images=FOLDER label='another program'   # --jobs FILE says what to draw
         python -m fdlab evaluate shard=0/2   # one process of two; without shard= it then scores
         python -m fdlab evaluate -m sampler.alpha=0.1,0.2,0.3 benchmark.baselines=false jobs=2"""


def main(argv: list[str]) -> int:
    """Run the verb; returns the exit status."""
    parser = configurable(
        "evaluate", "Score models on a benchmark: pictures, record, figures and report.", EXAMPLE
    )
    parser.add_argument("-m", "--multirun", action="store_true", help=grid.HELP)
    parser.add_argument("--dry", action="store_true", help="check, say what would be drawn, exit")
    parser.add_argument("--jobs", metavar="FILE", help="list what has to be drawn, for another program; exit")
    arguments = parser.parse_intermixed_args(argv)
    if arguments.multirun:
        return grid.main(arguments.overrides, "evaluate", only_show=arguments.dry or bool(arguments.cfg))
    grid.refuse_alone(arguments.overrides)
    from fdlab import lock
    from fdlab.config import directory
    from fdlab.config.compose import compose

    cfg = compose(arguments.overrides, config_name="evaluate")
    if arguments.cfg:
        print_config(cfg)
        return 0
    if arguments.jobs:
        return _list_jobs(cfg, Path(arguments.jobs))
    from fdlab.evaluation.requirements import Asked, check_evaluation
    from fdlab.evaluation.run import draw_share, evaluate

    benchmark = check_evaluation(Asked.read(cfg))
    if arguments.dry:
        _show(benchmark, cfg)
        return 0
    folder = directory.settle(cfg)
    if cfg.shard is not None:
        with directory.unless_refused(folder), lock.running(folder, shared=True):
            folder = draw_share(cfg, folder, cfg.shard)
        print(f"drawn; when all shares are there, score them: the same command without shard= ({folder})")
        return 0
    with directory.unless_refused(folder), lock.running(folder):
        directory.save(cfg, arguments.overrides)
        evaluate(cfg, folder)
    for what, name in (
        ("record", "evaluation/record.json"),
        ("images", "evaluation/images"),
        ("report", "report.html"),
    ):
        print(f"{what:<8}{folder / name}")
    return 0


def _show(benchmark: Benchmark, cfg: DictConfig) -> None:
    """Say what would be drawn."""
    from fdlab.config.naming import run_dir

    num = sum(1 for _ in benchmark.cells())
    what = f"{len(benchmark.subjects)} people, {len(benchmark.prompts)} prompts, {benchmark.size} px"
    drawn = f"of {cfg.images}" if cfg.images else f"by {cfg.sampler.guider}, {cfg.sampler.num_steps} steps"
    print(f"{'run directory':<24}{run_dir(cfg)}")
    print(f"{'benchmark':<24}{benchmark.name}: {what}")
    print(f"{'pictures a method':<24}{num} {drawn}")


def _list_jobs(cfg: DictConfig, path: Path) -> int:
    """Write the list of jobs."""
    from fdlab.benchmarks.choice import BenchmarkSettings
    from fdlab.benchmarks.jobs import write_jobs

    num = write_jobs(BenchmarkSettings.read(cfg.benchmark).open(), path)
    print(f"{num} pictures listed in {path}; draw them as PNG with these names, then images=FOLDER")
    return 0
