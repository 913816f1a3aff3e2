"""One trial of a grid or a search: a command of its own, with a run directory of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fdlab import lock
from fdlab.config.compose import compose
from fdlab.config.naming import run_dir
from fdlab.config.overrides import quoted
from fdlab.records import record

Verb = Literal["train", "evaluate"]
CONFIGS: dict[Verb, str] = {"train": "config", "evaluate": "evaluate"}
"""A verb's primary configuration."""
RECORD = Path("evaluation", "record.json")


@dataclass(frozen=True)
class Trial:
    """One combination of what varies. The same overrides are the same trial, whoever starts it."""

    overrides: list[str]
    varied: dict[str, str]
    """The keys that vary, with this trial's values."""
    folder: Path
    measured: bool
    """Whether it ends with a record; otherwise model weights are all it leaves."""
    verb: Verb = "train"
    shard: str | None = None
    """The share of an evaluation's pictures that it draws, into the folder of all; it scores nothing."""

    @classmethod
    def make(
        cls, overrides: list[str], varied: dict[str, str], verb: Verb = "train", group: str = ""
    ) -> Trial:
        """Compose what a trial is asked for; `group` is how those that belong together are called in Weights
        & Biases. Raises: UserError."""
        # Only here: what renders people takes a while to import.
        from fdlab.benchmarks.choice import NONE

        cfg = compose(overrides, config_name=CONFIGS[verb])
        measured = verb == "evaluate" or (cfg.evaluate and cfg.benchmark.kind != NONE)
        if group and cfg.logger.wandb and cfg.logger.group is None:
            # Names no run, so that a trial stays the same whichever search it is of.
            overrides = [*overrides, f"logger.group={quoted(group)}"]
        return cls(overrides, varied, run_dir(cfg), bool(measured), verb, cfg.get("shard"))

    @property
    def finished(self) -> bool:
        """Whether an earlier process took this trial to its end."""
        return (self.folder / (RECORD if self.measured else "model")).exists()

    @property
    def own(self) -> Path:
        """What no other trial has: its run directory, or of a shard a name beside the one that all share."""
        if self.shard is None:
            return self.folder
        return self.folder.with_name(f"{self.folder.name}.shard-{self.shard.replace('/', '-of-')}")

    @property
    def busy(self) -> str:
        """Who works on it, in words; of shards, which work together, nobody knows."""
        return "" if self.shard is not None else lock.holder(self.folder)

    @property
    def words(self) -> str:
        """What varies, as it is shown."""
        return " ".join(f"{key}={value}" for key, value in self.varied.items()) or "the only combination"

    def metrics(self) -> dict[str, dict[str, Any]]:
        """The metrics of its record; none where it has none. Raises: UserError for a damaged one."""
        path = self.folder / RECORD
        return dict(record.read(path)["metrics"]) if path.is_file() else {}


@dataclass(frozen=True)
class Outcome:
    """How a trial ended."""

    trial: Trial
    error: str = ""
    """Empty: well."""
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)


def log_of(trial: Trial) -> Path:
    """Where the output of one of several trials at once goes: beside its run directory."""
    trial.own.parent.mkdir(parents=True, exist_ok=True)
    return trial.own.with_name(trial.own.name + ".log")
