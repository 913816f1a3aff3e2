"""A search's memory: which points were tried, what came of each, and who works on one now.

Optuna keeps the trials, in a journal file or a database, so that any number of processes may work on one
search, come and go. A trial is claimed while its worker lives; then another takes it up, in the same run
directory, where it goes on.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fdlab.errors import UserError, unknown
from fdlab.metrics.registry import METRICS
from fdlab.randomness import derive
from fdlab.sweeps.claims import Claims, Heartbeats, Locks
from fdlab.sweeps.space import Choice, Interval, Space
from fdlab.sweeps.storage import JOURNAL, load_optuna, open_storage
from fdlab.sweeps.storage import check as check_storage

ASKED = "asked"
"""The study's attribute that says what was searched, and for what."""
STOPPED = "stopped"
ERROR, FOLDER, INTERVALS, BEGUN = "error", "folder", "intervals", "begun"


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


@dataclass
class Claim:
    """A trial that this process works on, until it is released."""

    trial: Any
    """Optuna's."""
    point: dict[str, Any]
    held: ExitStack = field(default_factory=ExitStack)


class Study:
    """One search in a folder of its own."""

    def __init__(self, folder: Path, space: Space, settings: SearchSettings) -> None:
        self.folder, self.space, self.settings = Path(folder), space, settings
        self._mine: set[int] = set()
        self._claims: Claims = Locks(self.folder)

    @cached_property
    def _study(self) -> Any:
        """Optuna's study, made or found. Raises: UserError where the folder holds another search."""
        optuna = load_optuna()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        where = self.settings.storage
        study = optuna.create_study(
            storage=open_storage(where, self.folder),
            # A journal holds one search, a database many.
            study_name="fdlab" if where == JOURNAL else self.folder.name,
            directions=self.settings.directions,
            pruner=_pruner(self.settings),
            load_if_exists=True,
        )
        self._claims = Locks(self.folder) if where == JOURNAL else Heartbeats(study)
        with self._claims.alone():
            asked = {
                "space": self.space.described(),
                "fixed": list(self.space.fixed),
                "objective": list(self.settings.objective),
            }
            known = study.user_attrs.get(ASKED)
            if known is None:
                study.set_user_attr(ASKED, asked)
                study.set_user_attr("optuna", optuna.__version__)
                for text in self.settings.known:
                    study.enqueue_trial(self.space.point(text))
                if self.settings.sampler == "grid":
                    for point in _combinations(self.space):
                        study.enqueue_trial(point)
            elif known != asked:
                key = next(key for key in asked if known.get(key) != asked[key])
                raise UserError(
                    f"'{self.folder}' holds another search: its {key} is {known.get(key)}, not {asked[key]}; "
                    "choose another sweep.name=."
                )
        return study

    def open(self) -> Study:
        """Make or find the study now. Raises: UserError."""
        assert self._study
        return self

    @property
    def optuna(self) -> Any:
        """The study as Optuna has it. Raises: UserError."""
        return self._study

    def trials(self) -> list[Any]:
        """All trials so far, as Optuna has them."""
        return list(self._study.get_trials(deepcopy=False))

    def next(self) -> Claim | None:
        """Claim the next trial: one whose process died, or a new point; None where the search is over.

        A trial that was begun `attempts` times in vain is told as failed.
        """
        optuna, study = load_optuna(), self._study
        with self._claims.alone():
            if study.user_attrs.get(STOPPED):
                return None
            trials = self.trials()
            for frozen in trials:
                if frozen.state == optuna.trial.TrialState.RUNNING and frozen.number not in self._mine:
                    claim = self._taken_up(optuna.trial.Trial(study, frozen._trial_id), frozen)
                    if claim is not None:
                        return claim
            begun = [t for t in trials if t.state != optuna.trial.TrialState.WAITING]
            if len(begun) >= self.most or self._is_patient_no_more(trials):
                return None
            # A seed a trial: so workers draw different points, and a search that goes on none again.
            study.sampler = _sampler(
                self.space, self.settings, derive(self.settings.seed, "trial", len(begun)) % 2**32
            )
            trial = study.ask(_distributions(self.space))
            return self._claimed(trial, dict(trial.params), 1)

    @property
    def most(self) -> int:
        """Trials after which the search ends: those asked for, or every combination of a grid."""
        if self.settings.sampler != "grid":
            return self.settings.trials
        return min(self.settings.trials, math.prod(len(_values(d)) for d in self.space.dimensions.values()))

    def tell(self, claim: Claim, metrics: Mapping[str, Mapping[str, Any]], failed: str, pruned: bool) -> str:
        """Say what came of a claimed trial, and let go of it. Returns that in words."""
        states, number, names = load_optuna().trial.TrialState, claim.trial.number, self.settings.objective
        if not failed and not pruned:
            missing = [name for name in names if not _is_number(metrics.get(name, {}).get("value"))]
            failed = f"its record has no {', '.join(missing)}" if missing else ""
        with self._claims.alone():
            claim.held.close()
            self._mine.discard(number)
            if failed:
                claim.trial.set_user_attr(ERROR, failed)
                self._study.tell(number, state=states.FAIL)
                return f"failed: {failed}"
            if pruned:
                self._study.tell(number, state=states.PRUNED)
                return "pruned"
            found = {name: metrics[name] for name in names}
            intervals = {name: [m.get("ci_low"), m.get("ci_high")] for name, m in found.items()}
            claim.trial.set_user_attr(INTERVALS, intervals)
            self._study.tell(number, [m["value"] for m in found.values()])
            return ", ".join(f"{name} {m['value']:.3f}" for name, m in found.items())

    def release(self, claim: Claim) -> None:
        """Let go of a trial that is not over: whoever comes next takes it up."""
        with self._claims.alone():
            claim.held.close()
            claim.trial.set_user_attr(BEGUN, claim.trial.user_attrs.get(BEGUN, 1) - 1)
            self._mine.discard(claim.trial.number)

    def stop(self) -> None:
        """Have every worker begin no further trial."""
        self._study.set_user_attr(STOPPED, True)

    def go_on(self) -> None:
        """Take a stop back."""
        if self._study.user_attrs.get(STOPPED):
            self._study.set_user_attr(STOPPED, False)

    def is_claimed(self, trial: Any) -> bool:
        """Whether a process works on a trial now."""
        return trial.number in self._mine or self._claims.is_claimed(trial)

    def awaits(self) -> bool:
        """Whether trials run elsewhere whose workers may yet turn out to be dead. Those of one machine are
        known at once, and left to whoever comes next."""
        running = load_optuna().trial.TrialState.RUNNING
        return isinstance(self._claims, Heartbeats) and any(
            trial.state == running and trial.number not in self._mine for trial in self.trials()
        )

    def _taken_up(self, trial: Any, frozen: Any) -> Claim | None:
        begun = int(frozen.user_attrs.get(BEGUN, 0))
        claim = self._claimed(trial, dict(frozen.params), begun + 1)
        if claim is None or begun < self.settings.attempts:
            return claim
        claim.held.close()
        self._mine.discard(trial.number)
        trial.set_user_attr(ERROR, f"its process died {begun} times")
        self._study.tell(trial.number, state=load_optuna().trial.TrialState.FAIL)
        return None

    def _claimed(self, trial: Any, point: dict[str, Any], begun: int) -> Claim | None:
        held = self._claims.claim(trial)
        if held is None:
            return None
        trial.set_user_attr(BEGUN, begun)
        self._mine.add(trial.number)
        return Claim(trial, point, held)

    def _is_patient_no_more(self, trials: Sequence[Any]) -> bool:
        patience = self.settings.patience
        done = [trial for trial in trials if trial.values]
        if not patience or len(done) <= patience:
            return False
        sign = 1 if self.settings.directions[0] == "maximize" else -1
        found = [sign * trial.values[0] for trial in done]
        return max(found[:-patience]) >= max(found[-patience:])


def suited(space: Space, settings: SearchSettings) -> None:
    """Check that a sampler can search a space, and that known points are of it. Raises: UserError."""
    _sampler(space, settings, 0)
    for text in settings.known:
        space.point(text)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _values(dimension: Any) -> tuple[str, ...]:
    if isinstance(dimension, Choice):
        return dimension.values
    raise UserError("sweep=grid tries every combination, and an interval has no end of values; give choices.")


def _distributions(space: Space) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, Any] = {}
    for key, dimension in space.dimensions.items():
        if isinstance(dimension, Interval):
            kind = IntDistribution if dimension.whole else FloatDistribution
            found[key] = kind(dimension.low, dimension.high, log=dimension.log)
        else:
            found[key] = CategoricalDistribution(dimension.values)
    return found


def _combinations(space: Space) -> Iterator[dict[str, str]]:
    keys = list(space.dimensions)
    for values in itertools.product(*(_values(dimension) for dimension in space.dimensions.values())):
        yield dict(zip(keys, values, strict=True))


def _sampler(space: Space, settings: SearchSettings, seed: int) -> Any:
    """Raises: UserError for a sampler that does not suit the space."""
    samplers, startup = load_optuna().samplers, settings.startup
    if settings.sampler == "grid":
        # Its points wait in the study already.
        assert all(map(_values, space.dimensions.values()))
        return samplers.RandomSampler(seed=seed)
    if settings.sampler == "random":
        return samplers.RandomSampler(seed=seed)
    if settings.sampler == "nsga2":
        return samplers.NSGAIISampler(seed=seed, population_size=max(4, min(50, settings.trials // 4)))
    if settings.sampler == "tpe":
        return samplers.TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, constant_liar=True)
    if not all(isinstance(dimension, Interval) for dimension in space.dimensions.values()):
        raise UserError("sweep=cmaes searches numbers alone; for choices take sweep=tpe.")
    if len(space.dimensions) < 2:
        raise UserError("sweep=cmaes needs two keys or more; for one take sweep=tpe.")
    if importlib.util.find_spec("cmaes") is None:
        raise UserError("sweep=cmaes needs the package cmaes: pip install 'fdlab[sweep]'.")
    return samplers.CmaEsSampler(seed=seed, n_startup_trials=startup)


def _pruner(settings: SearchSettings) -> Any:
    pruners = load_optuna().pruners
    if settings.pruner == "median":
        return pruners.MedianPruner(n_startup_trials=settings.startup)
    return pruners.HyperbandPruner() if settings.pruner == "hyperband" else pruners.NopPruner()
