"""Where curves go beside metrics.csv."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdlab.config.directory import is_main_process
from fdlab.errors import UserError

WITHOUT = "run `wandb login`, set WANDB_API_KEY, or give logger.mode=offline (`wandb sync` sends it later)."


@dataclass(frozen=True)
class LoggerSettings:
    """conf/logger, and under which name a run is to be found there."""

    wandb: bool
    project: str
    mode: str
    experiment: str
    name: str
    group: str | None = None
    """None: the experiment."""
    tensorboard: bool = False

    @classmethod
    def read(cls, cfg: Mapping[str, Any]) -> LoggerSettings:
        """Take them from a whole configuration."""
        logger = cfg["logger"]
        return cls(
            bool(logger["wandb"]),
            str(logger["project"]),
            str(logger["mode"]),
            str(cfg["experiment"]),
            str(cfg["name"]),
            logger["group"],
            bool(logger["tensorboard"]),
        )


def check(settings: LoggerSettings) -> None:
    """Look for what the loggers will need. Raises: UserError for a package that is not installed, or where
    wandb is to send to its server and has no key."""
    if settings.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise UserError("logger=tensorboard needs TensorBoard: pip install 'fdlab[tensorboard]'.")
    if not settings.wandb:
        return
    if importlib.util.find_spec("wandb") is None:
        raise UserError("logger=wandb needs the package wandb: pip install wandb, or logger=csv.")
    import wandb

    if settings.mode != "online":
        return
    try:
        logged_in = wandb.login(verify=False)
    except wandb.errors.Error as error:
        raise UserError(f"logger=wandb: {error}; {WITHOUT}") from error
    if not logged_in:
        raise UserError(f"logger.mode=online finds no key, or WANDB_MODE says otherwise; {WITHOUT}")


def make_loggers(settings: LoggerSettings, run_dir: Path, values: dict[str, Any]) -> list[Any]:
    """Lightning loggers that are asked for, of a run in `run_dir`; `values` is its configuration.

    Raises UserError when one is asked for and not installed, not logged in or out of reach.
    """
    check(settings)
    made: list[Any] = [_wandb(settings, run_dir / "wandb", values)] if settings.wandb else []
    if settings.tensorboard:
        from fdlab.training.tensorboard import TensorBoard

        made.append(TensorBoard(run_dir))
    return made


def _wandb(settings: LoggerSettings, folder: Path, values: dict[str, Any]) -> Any:
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    # The same id for the same run directory, so that a resumed run goes on in one curve.
    identity = f"{settings.experiment}-{settings.name}".replace("/", "-")[-100:]
    folder.mkdir(parents=True, exist_ok=True)
    logger = WandbLogger(
        name=settings.name,
        id=identity,
        group=settings.group or settings.experiment,
        project=settings.project,
        save_dir=str(folder),
        resume="allow",
        settings=wandb.Settings(mode=settings.mode),
    )
    # In other processes Lightning's logger stands for none, and has no configuration either.
    if settings.mode != "disabled" and is_main_process():
        try:
            logger.experiment.config.update(values, allow_val_change=True)
        except wandb.errors.Error as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"logger=wandb cannot start ({reason}); log in with `wandb login`, or take "
                "logger.mode=offline or logger=csv."
            ) from error
    return logger
