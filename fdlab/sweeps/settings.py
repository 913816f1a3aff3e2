"""How a search goes: conf/sweep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fdlab.errors import UserError, unknown
from fdlab.metrics.registry import METRICS
from fdlab.sweeps.storage import JOURNAL
from fdlab.sweeps.storage import check as check_storage


@dataclass(frozen=True)
class SearchSettings:
    """conf/sweep."""

    sampler: str
    objective: tuple[str, ...]
    trials: int
    hours: float = 0.0
    patience: int = 0
    seed: int = 0
    startup: int = 5
    pruner: str = "none"
    attempts: int = 2
    known: tuple[str, ...] = ()
    storage: str = JOURNAL

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> SearchSettings:
        """From the configuration's `sweep`. Raises: UserError."""
        found = {key: given[key] for key in cls.__dataclass_fields__}
        found |= {key: tuple(found[key]) for key in ("objective", "known")}
        made = cls(**found)
        for name in made.objective:
            if name not in METRICS:
                raise unknown("sweep.objective", name, METRICS)
        if len(set(made.objective)) != len(made.objective) or not made.objective:
            raise UserError(f"sweep.objective={list(made.objective)}: name one metric or more, each once.")
        check_storage(made.storage)
        several = len(made.objective) > 1
        if several and (made.pruner != "none" or made.patience):
            raise UserError("sweep.pruner and sweep.patience need one objective; several have no one best.")
        if several and made.sampler == "cmaes":
            raise UserError("sweep=cmaes follows one objective; for several take sweep=nsga2 or sweep=tpe.")
        return made

    @property
    def directions(self) -> list[str]:
        """minimize or maximize, as the metrics say."""
        return ["maximize" if METRICS[name].higher_is_better else "minimize" for name in self.objective]
