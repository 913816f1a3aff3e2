"""How the next point of a search is chosen: Optuna's samplers, our own grid, and what each can search."""

from __future__ import annotations

import importlib.util
import warnings
from itertools import islice
from typing import Any

from fdlab.errors import UserError
from fdlab.sweeps.dimensions import Choice, Dimension, Interval
from fdlab.sweeps.settings import SearchSettings
from fdlab.sweeps.space import Space
from fdlab.sweeps.storage import load_optuna

MAX_COMBINATIONS = 10_000


def suited(space: Space, settings: SearchSettings) -> None:
    """Check that a sampler can search a space, and that known points are of it. Raises: UserError."""
    make(space, settings, 0)
    for text in settings.known:
        space.point(text)


def suggest(trial: Any, space: Space) -> dict[str, Any]:
    """The point of an Optuna trial, as far as it has none drawn now."""

    def draw(name: str, dimension: Dimension) -> Any:
        if isinstance(dimension, Choice):
            return trial.suggest_categorical(name, dimension.values)
        kind = trial.suggest_int if dimension.whole else trial.suggest_float
        return kind(name, dimension.low, dimension.high, log=dimension.log)

    return space.walk(draw)


def num_combinations(space: Space) -> int:
    """How many there are. Raises: UserError where they are too many."""
    found = sum(1 for _ in islice(space.every(), MAX_COMBINATIONS + 1))
    if found > MAX_COMBINATIONS:
        raise UserError(
            f"sweep=grid: there are more than {MAX_COMBINATIONS} combinations; take sweep=random."
        )
    return found


def make(space: Space, settings: SearchSettings, seed: int) -> Any:
    """Optuna's sampler. Raises: UserError for one that does not suit the space."""
    samplers, startup = load_optuna().samplers, settings.startup
    if settings.sampler == "grid":
        # Its points wait in the study already.
        num_combinations(space)
        return samplers.RandomSampler(seed=seed)
    if settings.sampler == "random":
        return samplers.RandomSampler(seed=seed)
    if settings.sampler == "nsga2":
        return samplers.NSGAIISampler(seed=seed, population_size=max(4, min(50, settings.trials // 4)))
    if settings.sampler == "tpe":
        return _tpe(space, seed, startup)
    if not all(isinstance(dimension, Interval) for dimension in space.dimensions.values()):
        raise UserError("sweep=cmaes searches numbers alone; for choices take sweep=tpe.")
    if len(space.dimensions) < 2:
        raise UserError("sweep=cmaes needs two keys or more; for one take sweep=tpe.")
    if importlib.util.find_spec("cmaes") is None:
        raise UserError("sweep=cmaes needs the package cmaes: pip install 'fdlab[sweep]'.")
    return samplers.CmaEsSampler(seed=seed, n_startup_trials=startup)


def _tpe(space: Space, seed: int, startup: int) -> Any:
    """Keys that only some trials have are followed in groups of their own; Optuna calls that experimental."""
    optuna = load_optuna()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=startup, multivariate=True, group=bool(space.conditions),
            constant_liar=True,
        )  # fmt: skip


def pruner(settings: SearchSettings) -> Any:
    """Optuna's pruner."""
    pruners = load_optuna().pruners
    if settings.pruner == "median":
        return pruners.MedianPruner(n_startup_trials=settings.startup)
    return pruners.HyperbandPruner() if settings.pruner == "hyperband" else pruners.NopPruner()
