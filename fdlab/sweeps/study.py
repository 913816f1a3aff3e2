"""A search's memory: which points were tried, what came of each, and who works on one now.

Optuna keeps the trials, in a journal file or a database, so that any number of processes may work on one
search, come and go. A trial is claimed while its worker lives; then another takes it up, in the same run
directory, where it goes on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fdlab.errors import UserError
from fdlab.randomness import derive
from fdlab.sweeps import samplers
from fdlab.sweeps.claims import BEAT, Claims, Heartbeats, Locks
from fdlab.sweeps.settings import SearchSettings
from fdlab.sweeps.space import Space, whatever_the_place
from fdlab.sweeps.storage import JOURNAL, JOURNAL_FILE, load_optuna, open_storage

ASKED = "asked"
"""The study's attribute that says what was searched, and for what."""
STOPPED = "stopped"
ERROR, FOLDER, INTERVALS, BEGUN = "error", "folder", "intervals", "begun"


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
            pruner=samplers.pruner(self.settings),
            load_if_exists=True,
        )
        self._claims = Locks(self.folder) if where == JOURNAL else Heartbeats(study)
        with self._claims.alone():
            asked = {
                "space": self.space.described(),
                "fixed": self.space.kept(),
                "objective": list(self.settings.objective),
            }
            known = study.user_attrs.get(ASKED)
            if known is None:
                study.set_user_attr(ASKED, asked)
                study.set_user_attr("optuna", optuna.__version__)
                for text in self.settings.known:
                    study.enqueue_trial(self.space.point(text))
                if self.settings.sampler == "grid":
                    for point in self.space.every():
                        study.enqueue_trial(point)
            elif {**known, "fixed": whatever_the_place(known["fixed"])} != asked:
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

    def find(self) -> Study:
        """The study, which has begun. Raises: UserError where none of this name has; nothing is made."""
        if self.settings.storage == JOURNAL:
            others = [file.parent.name for file in sorted(self.folder.parent.glob(f"*/{JOURNAL_FILE}"))]
        else:
            storage = open_storage(self.settings.storage, self.folder)
            others = [str(name) for name in load_optuna().study.get_all_study_names(storage)]
        if self.folder.name not in others:
            raise UserError(
                f"no search '{self.folder.name}' has begun; give the words that began it, or sweep.name=. "
                f"Begun: {', '.join(others) or 'none'}."
            )
        return self.open()

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
            study.sampler = samplers.make(
                self.space, self.settings, derive(self.settings.seed, "trial", len(begun)) % 2**32
            )
            trial = study.ask()
            return self._claimed(trial, samplers.suggest(trial, self.space), 1)

    @cached_property
    def _num_combinations(self) -> float:
        return samplers.num_combinations(self.space) if self.settings.sampler == "grid" else math.inf

    @property
    def most(self) -> int:
        """Trials after which the search ends: those asked for, or every combination of a grid."""
        return int(min(self.settings.trials, self._num_combinations))

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
            # Whoever comes next need not wait to see that nobody works on it.
            claim.trial.set_user_attr(BEAT, None)
            claim.trial.set_user_attr(BEGUN, claim.trial.user_attrs.get(BEGUN, 1) - 1)
            self._mine.discard(claim.trial.number)

    def stop(self) -> None:
        """Have every worker begin no further trial."""
        self._study.set_user_attr(STOPPED, True)

    @property
    def is_stopped(self) -> bool:
        """Whether no worker begins a further trial."""
        return bool(self._study.user_attrs.get(STOPPED))

    def go_on(self) -> None:
        """Take a stop back."""
        if self.is_stopped:
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
        # A worker may have died before it had drawn the whole point.
        claim = self._claimed(trial, samplers.suggest(trial, self.space), begun + 1)
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


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
