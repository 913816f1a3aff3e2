"""`fdlab train`: fine-tune, then sample and measure; `-m` does so for every combination of a grid."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from fdlab.cli import grid
from fdlab.cli.options import configurable, print_config
from fdlab.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from fdlab.config.seen import Seen

EXAMPLE = """python -m fdlab train +exp=sdm seed=2 model.lr=1e-4
         python -m fdlab train -m +exp=sdm seed=1,2 model.lr=1e-4,3e-4 jobs=2"""
PATHS = {
    "model": "model",
    "curves": "metrics.csv",
    "speed": "speed.csv",
    "profile": "profile",
    "validation": "validation.csv",
    "samples": "samples",
    "record": "evaluation/record.json",
    "images": "evaluation/images",
    "report": "report.html",
}
"""What a run leaves, as far as it does."""


def main(argv: list[str]) -> int:
    """Run the verb; returns the exit status."""
    parser = configurable("train", "Fine-tune, then sample and evaluate, then write the record.", EXAMPLE)
    add = parser.add_argument
    add("-m", "--multirun", action="store_true", help=grid.HELP)
    add("--dry", action="store_true", help="build, print parameters, steps and memory, exit")
    add("--json", action="store_true", help="print what --dry finds as JSON")
    arguments = parser.parse_intermixed_args(argv)
    if arguments.multirun:
        return grid.main(arguments.overrides, "train", only_show=arguments.dry or bool(arguments.cfg))
    if arguments.json and not arguments.dry:
        raise UserError("--json goes with --dry.")
    grid.refuse_alone(arguments.overrides)
    from fdlab.config import unread
    from fdlab.config.compose import compose
    from fdlab.config.launch import launched, said_once_a_machine

    with said_once_a_machine():
        cfg = compose(arguments.overrides)
        unread.refuse(arguments.overrides, cfg)
    if arguments.cfg:
        print_config(cfg)
        return 0
    from fdlab.config.directory import is_main_process
    from fdlab.evaluation.requirements import Asked, check

    # What the first started begins once it has looked; of those that another started each looks itself.
    if is_main_process() or launched() is not None:
        with said_once_a_machine():
            if (launch := launched()) is not None:
                launch.check(cfg.trainer.devices, cfg.trainer.nodes)
            check(Asked.read(cfg), cfg.data)
    if arguments.dry:
        _dry(cfg, arguments.json)
    else:
        _train(cfg, arguments.overrides)
    return 0


def _train(cfg: DictConfig, overrides: list[str]) -> None:
    from fdlab import lock
    from fdlab.config import directory
    from fdlab.config.meeting import settled_by_first
    from fdlab.engine.together import ending
    from fdlab.training.source import seen

    with ExitStack() as stack:

        def settle() -> tuple[Path, Seen | None, Callable[[int], None]]:
            data = seen(cfg)
            folder = directory.settle(cfg, data)
            let_go = stack.enter_context(directory.unless_refused(folder))
            # Those beside the first work under its lock.
            stack.enter_context(lock.running(folder) if directory.is_main_process() else nullcontext())
            return folder, data, let_go

        folder, data, let_go = settled_by_first(cfg, settle)
        with ending(folder, let_go):
            _work(cfg, overrides, folder, data)


def _work(cfg: DictConfig, overrides: list[str], folder: Path, data: Seen | None) -> None:
    from fdlab.config import directory

    directory.save(cfg, overrides, data)
    from fdlab.engine.ranks import Ranks
    from fdlab.evaluation.requirements import Asked
    from fdlab.evaluation.validation import watch
    from fdlab.training.fit import fit

    watcher = watch(cfg, folder)
    fit(cfg, watchers=[watcher] if watcher else [], stop_at=watcher.stop_step if watcher else None)
    evaluates = Asked.read(cfg).evaluates
    # Of several processes that found nothing left to train none knows another.
    if evaluates and (directory.is_main_process() or Ranks.here().world > 1):
        from fdlab.evaluation.run import evaluate

        evaluate(cfg, folder)
    if not directory.is_main_process():
        return
    _print_paths(folder)
    if cfg.evaluate and not evaluates:
        print(f"nothing was evaluated, for benchmark={cfg.benchmark.name}; give one, as in benchmark=own")


def _print_paths(folder: Path) -> None:
    """Say where everything is that the run left behind."""
    print(f"\nrun directory  {folder}")
    for what, name in PATHS.items():
        if (folder / name).exists():
            print(f"{what:<15}{folder / name}")


def _dry(cfg: DictConfig, as_json: bool) -> None:
    from fdlab.training.fit import describe
    from fdlab.training.settings import FitSettings

    found = describe(FitSettings.read(cfg))
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
    else:
        for name, value in found.lines().items():
            print(f"{name:<24}{value}")
    if (warning := found.warning()) is not None:
        print(warning, file=sys.stderr)
