"""`fdlab sweep`: search settings by what their runs' records say; `status`, `best` and `stop` of a search."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fdlab.cli.options import configurable, print_config

if TYPE_CHECKING:
    from fdlab.sweeps.launchers import Launcher
    from fdlab.sweeps.study import Study

ACTIONS = ("status", "best", "stop")
EXAMPLE = """python -m fdlab sweep +exp=sdm 'model.lr=tag(log,interval(1e-5,1e-3))' sweep.trials=12
         python -m fdlab sweep 'sampler.alpha=interval(0.1,0.4)' 'sampler.guidance_scale=interval(1,6)' jobs=2
         python -m fdlab sweep sampler=snf_test,switch 'sampler.alpha=interval(0.1,0.4) if sampler=snf_test'
         python -m fdlab sweep status ...   # the same words; best writes conf/exp/NAME.yaml, stop ends it

Without an experiment trials are evaluations: models exist, sampling is searched. The same command goes on
with a search, and any number of processes may work on one."""


def main(argv: list[str]) -> int:
    """Run the verb; returns the exit status."""
    parser = configurable("sweep", "Search settings by what their runs' records say.", EXAMPLE)
    parser.add_argument(
        "--dry", action="store_true", help="check the space and the launcher, say what is searched, exit"
    )
    arguments = parser.parse_intermixed_args(argv)
    words = list(arguments.overrides)
    action = words.pop(0) if words and words[0] in ACTIONS else "search"
    from fdlab.sweeps import grid, launchers
    from fdlab.sweeps.asked import read

    words, jobs = grid.split_jobs(words)
    words, launcher = launchers.split(words)
    # A search that has begun was checked then.
    cfg, study = read(words, check=action == "search")
    if arguments.cfg:
        print_config(cfg)
        return 0
    if arguments.dry:
        _describe(study)
        _launcher(study, jobs, launcher)
        return 0
    if action == "stop":
        study.find().stop()
        print(f"{study.folder.name}: no further trial is begun; the same command without stop goes on")
        return 0
    if action == "search":
        _search(study, jobs, launcher)
    _show(study.find())
    if action == "best":
        _write_best(study)
    return 0


def _search(study: Study, jobs: int, launcher: Mapping[str, Any]) -> None:
    from fdlab.sweeps.search import Worker

    _describe(study)
    runs = _launcher(study, jobs, launcher)
    Worker(study.open(), runs).work(jobs)


def _launcher(study: Study, jobs: int, settings: Mapping[str, Any]) -> Launcher:
    from fdlab.sweeps import launchers

    return launchers.make(settings, jobs, study.folder / "jobs", quiet=True)


def _describe(study: Study) -> None:
    s = study.settings
    print(f"{'search':<12}{study.folder}")
    print(f"{'by':<12}{s.sampler}, {study.most} trials of `{study.space.verb}`")
    print(f"{'objective':<12}{', '.join(f'{d} {n}' for n, d in zip(s.objective, s.directions, strict=True))}")
    for name, words in study.space.described().items():
        print(f"  {name}: {words}")
    for word in study.space.constant()[len(study.space.fixed) :]:
        print(f"  {word}")


def _show(study: Study) -> None:
    from fdlab.cli.grid import show_table
    from fdlab.sweeps import page, results

    show_table(f"search {study.folder.name}", *results.table(study))
    for line in results.summary(study):
        print(line)
    print(f"{'page':<12}{page.current(study)}")


def _write_best(study: Study) -> None:
    from fdlab.sweeps import results

    path: Path = results.write_best(study)
    print(f"written to {path}: python -m fdlab {study.space.verb} +exp={path.stem}")
