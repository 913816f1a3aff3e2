"""Which directory a run writes to: a new one, or the one an earlier run of the same name left."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fdlab import files
from fdlab.config import naming, provenance, seen
from fdlab.config.naming import run_dir
from fdlab.config.schema import leaves as schema_leaves
from fdlab.config.seen import Seen
from fdlab.errors import EndedElsewhere, UserError

_NAME_OF_PARENT = "FDLAB_RUN_NAME"
_MAY_DIFFER = (
    "resume", "paths.", "logger.", "trainer.devices", "trainer.nodes", "trainer.strategy",
    "trainer.accelerator", "trainer.num_workers", "model.ema_device", "model.frozen", "model.offload",
)  # fmt: skip
"""Leaves that a resumed run may change: they do not change what it computes, but for the pictures of a step,
which grow with devices. More steps are welcome, too."""
_AFTERWARDS = (
    "evaluate", "evaluation.", "benchmark.", "sampler.", "tdm", "sdm", "trainer.benchmark_",
    "trainer.sampler_steps",
)  # fmt: skip
"""Leaves that come to bear when training is over (samples on the way aside): sampling and evaluation."""


ENDED = ".ended"
"""The status with which the first of several processes failed."""
ASKED = ("config.yaml", "overrides.yaml", "environment.json", seen.FILE, ".lock", ENDED)
"""What says in a run directory what was asked for, and by whom."""


def is_main_process() -> bool:
    """False in the processes that data-parallel training has beside the first, whether torchrun, SLURM or
    Lightning started them."""
    if "RANK" in os.environ:
        return os.environ["RANK"] == "0"
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "LOCAL_RANK" not in os.environ:
        return os.environ.get("SLURM_PROCID", "0") == "0"
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"


def settle(cfg: Any, data: Seen | None = None) -> Path:
    """Settle the run directory of `cfg` (its `name` may get a number) and return it.

    `resume=never` takes a directory that is new. Otherwise an existing one is gone on with, provided that it
    holds the same configuration and was trained on the same `data`; keys that only evaluation reads may
    differ until it has a record. A new one takes over the checkpoints of a run of the experiment that trained
    the very same, under whatever name: so a corrected sampler or benchmark costs no training. Raises:
    UserError naming the first key that differs, or what changed of the data.
    """
    if not is_main_process():
        cfg.name = os.environ.get(_NAME_OF_PARENT, cfg.name)
        return run_dir(cfg)
    if cfg.resume == "never":
        name, number = cfg.name, 2
        while run_dir(cfg).exists():
            cfg.name, number = f"{name}-{number}", number + 1
    elif _is_begun(run_dir(cfg)):
        _check_same(_leaves(cfg), run_dir(cfg))
        _check_data(cfg, data, run_dir(cfg))
    elif cfg.resume == "auto":
        _take_over(_leaves(cfg), data, run_dir(cfg))
    else:
        _tell_other_data(Path(cfg.resume).expanduser(), data)
    os.environ[_NAME_OF_PARENT] = cfg.name
    return run_dir(cfg)


def save(configuration: Mapping[str, Any], overrides: list[str], data: Seen | None = None) -> None:
    """Write what the run was made of into its directory, from the first process only."""
    if is_main_process():
        provenance.save(configuration, run_dir(configuration), overrides)
        if data is not None:
            data.save(run_dir(configuration))


@contextmanager
def unless_refused(folder: Path) -> Iterator[Callable[[int], None]]:
    """Let a new run directory go again where what was asked for is refused before anything is in it but what
    was asked for. Given is what does so for a status, where a process has to end from within."""
    made = [place for place in (folder, folder.parent, folder.parent.parent) if not place.exists()]

    def let_go(status: int) -> None:
        if status == 2 and folder in made and is_main_process() and folder.is_dir():
            _discard(folder, made)

    try:
        yield let_go
    except (UserError, EndedElsewhere) as error:
        let_go(2 if isinstance(error, UserError) else error.status)
        raise


def _discard(folder: Path, made: list[Path]) -> None:
    inside = list(folder.iterdir())
    if not all(path.name in ASKED and path.is_file() for path in inside):
        return
    for path in inside:
        path.unlink()
    for empty in made:
        try:
            empty.rmdir()
        except OSError:
            # Others' runs are in it.
            return


def _is_begun(folder: Path) -> bool:
    return (folder / "config.yaml").is_file() and any((folder / "checkpoints").glob("*.ckpt"))


def _check_same(new: Mapping[str, Any], folder: Path) -> None:
    old = _leaves(provenance.load(folder))
    recorded = (folder / "evaluation" / "record.json").is_file()
    passed = _MAY_DIFFER if recorded else (*_MAY_DIFFER, *_only_afterwards(new))
    for key in _differing(old, new, passed):
        both = key in old and key in new
        longer = both and key == "trainer.max_steps" and new[key] >= old[key]
        if both and not longer:
            raise UserError(
                f"'{folder}' holds a run with {key}={old[key]}, not {new[key]}; "
                f"choose another name=..., or resume=never for a new directory."
            )


def _check_data(cfg: Any, now: Seen | None, folder: Path) -> None:
    from omegaconf import OmegaConf

    if change := _change(folder, now):
        key, what = change
        raise UserError(
            f"'{folder}' was trained on other data: in {key}={OmegaConf.select(cfg, key)}, {what}; put back"
            " what was there, or choose another name=..., or resume=never for a new directory."
        )


def _tell_other_data(start: Path, now: Seen | None) -> None:
    """Of a run directory or a checkpoint that was named: it is gone on with, whatever it was trained on."""
    folder = start if start.is_dir() else start.parent.parent
    if change := _change(folder, now):
        key, what = change
        print(f"note: '{start}' was trained on other data (in {key}, {what}).", file=sys.stderr)


def _change(folder: Path, now: Seen | None) -> tuple[str, str] | None:
    """Which folder of those that a run was trained on holds something else now, and what, as far as is
    known."""
    then = None if now is None else seen.load(folder)
    return None if then is None or now is None else then.change(now)


def _take_over(new: Mapping[str, Any], data: Seen | None, folder: Path) -> None:
    """Take the state of the latest run of this experiment that trained what `new` asks for on that `data`,
    and differs from it in what comes afterwards. (A second run under another name is trained again: so it may
    be compared.)"""
    passed = ("name", *_MAY_DIFFER)
    told = ""
    begun = (other for other in folder.parent.glob("*") if other != folder and _is_begun(other))
    for other in sorted(begun, key=lambda other: (other / "config.yaml").stat().st_mtime, reverse=True):
        try:
            old = _leaves(provenance.load(other))
            same = not any(_differing(old, new, (*passed, *_only_afterwards(new))))
            if not (same and any(_differing(old, new, passed))):
                continue
            change = _change(other, data)
        except UserError:
            # A damaged neighbour is not what this run is about.
            continue
        if change is None:
            print(f"note: '{other}' trained the same; going on from its checkpoints.", file=sys.stderr)
            _adopt(other, folder)
            return
        what = f"in {change[0]}, {change[1]}"
        told = told or f"note: '{other}' trained the same on other data ({what}); training anew."
    if told:
        print(told, file=sys.stderr)


def _adopt(other: Path, folder: Path) -> None:
    """Copy a run's curves and grids, then its checkpoints, linked where the disk can do so: they are written
    whole, never changed."""
    if (other / "metrics.csv").is_file():
        files.write_bytes(folder / "metrics.csv", (other / "metrics.csv").read_bytes())
    if (other / "samples").is_dir():
        shutil.copytree(other / "samples", folder / "samples", dirs_exist_ok=True)
    with files.whole_folder(folder / "checkpoints") as temporary:
        for path in (other / "checkpoints").glob("*.ckpt"):
            try:
                os.link(path, temporary / path.name)
            except OSError:
                shutil.copyfile(path, temporary / path.name)


def _only_afterwards(leaves: Mapping[str, Any]) -> tuple[str, ...]:
    """Keys that no training of this configuration depends on: evaluating while training reads them, too."""
    return () if leaves.get("validation.every") else _AFTERWARDS


def _leaves(configuration: Mapping[str, Any]) -> dict[str, Any]:
    from omegaconf import OmegaConf

    resolved: Any = OmegaConf.to_container(configuration, resolve=True)  # type: ignore[arg-type]
    return dict(schema_leaves(naming.without_folders(resolved)))


def _differing(old: Mapping[str, Any], new: Mapping[str, Any], passed: tuple[str, ...]) -> Iterator[str]:
    for key in sorted(set(old) | set(new)):
        exact = key in passed or key.startswith(tuple(p for p in passed if p.endswith((".", "_"))))
        if not exact and old.get(key) != new.get(key):
            yield key
