"""Which directory a run writes to: a new one, or the one an earlier run of the same name left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fdlab.config import provenance
from fdlab.config.naming import run_dir
from fdlab.config.schema import leaves
from fdlab.errors import UserError

_NAME_OF_PARENT = "FDLAB_RUN_NAME"
_MAY_DIFFER = ("resume", "paths.", "logger.", "trainer.devices", "trainer.accelerator", "trainer.num_workers")
"""Leaves that a resumed run may change: they do not change what it computes. More steps are welcome, too."""


def is_main_process() -> bool:
    """False in the processes that data-parallel training has beside the first, whether torchrun, SLURM or
    Lightning started them."""
    if "RANK" in os.environ:
        return os.environ["RANK"] == "0"
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "LOCAL_RANK" not in os.environ:
        return os.environ.get("SLURM_PROCID", "0") == "0"
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"


def settle(cfg: Any) -> Path:
    """Settle the run directory of `cfg` (its `name` may get a number) and return it.

    `resume=never` takes a directory that is new. Otherwise an existing one is gone on with, provided that it
    holds the same configuration. Raises: UserError naming the first key that differs.
    """
    if not is_main_process():
        cfg.name = os.environ.get(_NAME_OF_PARENT, cfg.name)
        return run_dir(cfg)
    if cfg.resume == "never":
        name, number = cfg.name, 2
        while run_dir(cfg).exists():
            cfg.name, number = f"{name}-{number}", number + 1
    elif (run_dir(cfg) / "config.yaml").is_file() and any((run_dir(cfg) / "checkpoints").glob("*.ckpt")):
        _check_same(cfg, run_dir(cfg))
    os.environ[_NAME_OF_PARENT] = cfg.name
    return run_dir(cfg)


def save(cfg: Any, overrides: list[str]) -> None:
    """Write what the run was made of into its directory, from the first process only."""
    if is_main_process():
        provenance.save(cfg, run_dir(cfg), overrides)


def _check_same(cfg: Any, folder: Path) -> None:
    from omegaconf import OmegaConf

    old, new = (
        dict(leaves(OmegaConf.to_container(c, resolve=True)))  # type: ignore[arg-type]
        for c in (provenance.load(folder), cfg)
    )
    for key in sorted(set(old) & set(new)):
        longer = key == "trainer.max_steps" and new[key] >= old[key]
        if old[key] != new[key] and not longer and not key.startswith(_MAY_DIFFER):
            raise UserError(
                f"'{folder}' holds a run with {key}={old[key]}, not {new[key]}; "
                f"choose another name=..., or resume=never for a new directory."
            )
