"""Scores over a training's steps, in validation.csv: which step was the best, and when it is time to stop."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from fdlab.metrics.registry import METRICS


@dataclass(frozen=True)
class History:
    """What a training's evaluations found: (step, {metric: value}), oldest first."""

    rows: tuple[tuple[int, dict[str, float]], ...] = ()

    @classmethod
    def read(cls, path: Path) -> History:
        """Read validation.csv; empty where there is none. A row that a kill tore off is left out."""
        if not path.is_file():
            return cls()
        with path.open(newline="", encoding="utf-8") as stream:
            header, *lines = csv.reader(stream)
        rows = [
            (int(line[0]), {name: float(x) for name, x in zip(header[2:], line[2:], strict=True) if x})
            for line in lines
            if len(line) == len(header)
        ]
        return cls(tuple(rows))

    def best(self, metric: str) -> int | None:
        """Index of the best row by a metric, the first of equals; None where none has it."""
        sign = 1 if METRICS[metric].higher_is_better else -1
        found = [(sign * values[metric], -i) for i, (_, values) in enumerate(self.rows) if metric in values]
        return -max(found)[1] if found else None

    def stop_step(self, metric: str, patience: int) -> int | None:
        """The step at which the latest `patience` evaluations in a row brought nothing better; None: go on.

        0 is endless patience.
        """
        for end in range(1, len(self.rows) + 1) if patience else ():
            best = History(self.rows[:end]).best(metric)
            if best is not None and end - 1 - best >= patience:
                return self.rows[end - 1][0]
        return None
