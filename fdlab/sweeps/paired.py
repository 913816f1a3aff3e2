"""Which trials of a search cannot be told from the best: compared picture by picture, not by their means.

Trials of a search over sampling draw the same subjects, prompts and seeds, so that differences can be paired.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fdlab.errors import UserError
from fdlab.leaderboard.compare import compare, locate
from fdlab.metrics.bootstrap import Estimate
from fdlab.sweeps.study import FOLDER, Study

MOST = 20
"""Trials that are compared with the best, the next best first."""


def beside(study: Study, best: Any) -> list[tuple[Any, Estimate]]:
    """The next best trials of one objective that paired differences (trial - best) do not tell from the best,
    with that difference. Those whose records cannot be compared are left out."""
    sign = 1 if study.settings.directions[0] == "maximize" else -1
    others = [trial for trial in study.trials() if trial.values and trial.number != best.number]
    others.sort(key=lambda trial: -sign * trial.values[0])
    found = []
    for trial in others[:MOST]:
        difference = _difference(best, trial, study.settings.objective[0])
        if difference is None or difference.low is None or difference.high is None:
            continue
        if difference.low <= 0 <= difference.high:
            found.append((trial, difference))
    return found


def _difference(best: Any, trial: Any, metric: str) -> Estimate | None:
    folders = [Path(str(one.user_attrs.get(FOLDER, ""))) for one in (best, trial)]
    try:
        first, second = (locate(folder / "evaluation") for folder in folders)
        made = compare(first, second)
    except UserError:
        # A record that was moved, or damaged since: the trial's value stands, a comparison does not.
        return None
    return next((line.difference for line in made.lines if line.metric == metric), None)
