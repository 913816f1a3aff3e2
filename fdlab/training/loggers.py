"""Where curves go beside metrics.csv."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from fdlab.errors import UserError

WITHOUT = "run `wandb login`, set WANDB_API_KEY, or give logger.mode=offline (`wandb sync` sends it later)."


def check(cfg: Any) -> None:
    """Look for what `cfg` (conf/logger) will need. Raises: UserError where wandb is not installed, or is to
    send to its server and has no key."""
    if not cfg.wandb:
        return
    if importlib.util.find_spec("wandb") is None:
        raise UserError("logger=wandb needs the package wandb: pip install wandb, or logger=csv.")
    import wandb

    if cfg.mode != "online":
        return
    try:
        logged_in = wandb.login(verify=False)
    except wandb.errors.Error as error:
        raise UserError(f"logger=wandb: {error}; {WITHOUT}") from error
    if not logged_in:
        raise UserError(f"logger.mode=online finds no key, or WANDB_MODE says otherwise; {WITHOUT}")


def make_loggers(cfg: Any, folder: Path, group: str, name: str, values: dict[str, Any]) -> list[Any]:
    """Lightning loggers that `cfg` (conf/logger) asks for; `values` is the run's configuration.

    Raises UserError as `check` does.
    """
    check(cfg)
    if not cfg.wandb:
        return []
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    # The same id for the same run directory, so that a resumed run goes on in one curve.
    identity = f"{group}-{name}".replace("/", "-")[-100:]
    settings = wandb.Settings(mode=cfg.mode)
    folder.mkdir(parents=True, exist_ok=True)
    logger = WandbLogger(
        name=name,
        id=identity,
        group=group,
        project=cfg.project,
        save_dir=str(folder),
        resume="allow",
        settings=settings,
    )
    if cfg.mode != "disabled":
        logger.experiment.config.update(values, allow_val_change=True)
    return [logger]
