"""What a search varies: intervals, choices and ranges, written in Hydra's words and checked before anything
runs.

    model.lr=tag(log,interval(1e-6,1e-3))         sampler.alpha=interval(0.1,0.4)
    model.train_image_blocks=int(interval(0,2))   sampler.num_steps=range(10,51,10)
    model.optimizer=choice(adamw,muon)            seed=1,2,3
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from fdlab.config.compose import compose, variants_of
from fdlab.config.overrides import Line
from fdlab.errors import UserError, unknown
from fdlab.sweeps.trial import CONFIGS, Verb

UNUSED_BY_EVALUATION = ("model.", "data.", "init", "resume", "validation.", "trainer.")
MAX_CHOICES = 1_000


@dataclass(frozen=True)
class Interval:
    """Numbers between two, both included."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def ends(self) -> list[str]:
        """Its ends, as overrides write them."""
        return [written(self.low), written(self.high)]

    @property
    def words(self) -> str:
        kinds = f"{'whole ' if self.whole else ''}numbers{', by their logarithm' if self.log else ''}"
        return f"{' to '.join(self.ends())} ({kinds})"


@dataclass(frozen=True)
class Choice:
    """One of several values, each as an override writes it."""

    values: tuple[str, ...]

    def ends(self) -> list[str]:
        """All of them."""
        return list(self.values)

    @property
    def words(self) -> str:
        return ", ".join(self.values)


Dimension = Interval | Choice


@dataclass(frozen=True)
class Space:
    """Everything that a search varies, by key, and the overrides that stay."""

    dimensions: Mapping[str, Dimension]
    fixed: tuple[str, ...]
    verb: Verb

    @classmethod
    def read(cls, overrides: Sequence[str], verb: Verb) -> Space:
        """Take a command apart, and compose every end of every dimension. Raises: UserError."""
        dimensions: dict[str, Dimension] = {}
        fixed = []
        for line, is_text in variants_of(overrides, CONFIGS[verb]):
            found = _dimension(line, is_text)
            if found is None:
                fixed.append(line.given)
            elif line.key in dimensions:
                raise UserError(f"'{line.given}': {line.key} is varied twice.")
            else:
                dimensions[line.key] = found
        if not dimensions:
            raise UserError(
                "nothing is searched; write what varies, as in 'model.lr=tag(log,interval(1e-6,1e-3))'."
            )
        if verb == "evaluate":
            for key in dimensions:
                if key.startswith(UNUSED_BY_EVALUATION):
                    raise UserError(
                        f"{key}: an evaluation does not use it; to search it, train: add +exp=NAME."
                    )
        space = cls(dimensions, tuple(fixed), verb)
        space._compose()
        return space

    def overrides(self, point: Mapping[str, Any]) -> list[str]:
        """A trial's overrides. `point` as the study keeps it: numbers, or a choice's text."""
        return [*self.fixed, *(f"{key}={written(point[key])}" for key in self.dimensions)]

    def point(self, text: str) -> dict[str, Any]:
        """A point from `KEY=VALUE KEY=VALUE`. Raises: UserError for one that is not of this space."""
        found: dict[str, Any] = {}
        for word in text.split():
            line = Line.read(word)
            if line.key not in self.dimensions:
                raise unknown(f"key of the point '{text}'", line.key, self.dimensions)
            found[line.key] = _value(line, self.dimensions[line.key])
        return found

    def described(self) -> dict[str, str]:
        """Each dimension in words, which a study compares itself by."""
        return {key: dimension.words for key, dimension in self.dimensions.items()}

    def _compose(self) -> None:
        first = {key: dimension.ends()[0] for key, dimension in self.dimensions.items()}
        for key, dimension in self.dimensions.items():
            for value in dimension.ends():
                lines = [f"{k}={v}" for k, v in {**first, key: value}.items()]
                compose([*self.fixed, *lines], config_name=CONFIGS[self.verb])


def written(value: Any) -> str:
    """A value as an override writes it: the same for the same number, so that a trial keeps its folder."""
    return format(value, ".6g") if isinstance(value, float) else str(value)


def _dimension(line: Line, is_text: bool) -> Dimension | None:
    from hydra.core.override_parser.types import IntervalSweep, ValueType

    if is_text and "(" not in line.value:
        values = line.values(is_text)
        return Choice(tuple(values)) if len(values) > 1 else None
    try:
        override = line.parsed()
    except UserError:
        if is_text:
            return None
        raise
    if not override.is_sweep_override():
        return None
    if override.value_type == ValueType.INTERVAL_SWEEP:
        sweep: Any = override.value()
        assert isinstance(sweep, IntervalSweep)
        return _interval(line, sweep.start, sweep.end, sweep.tags)
    values = list(islice(line.values(is_text), MAX_CHOICES + 1))
    if len(values) > MAX_CHOICES:
        raise UserError(f"'{line.given}' gives more than {MAX_CHOICES} choices.")
    return Choice(tuple(values)) if len(values) > 1 else None


def _interval(line: Line, low: Any, high: Any, tags: set[str]) -> Interval:
    if extra := tags - {"log"}:
        raise unknown(f"tag of '{line.given}'", sorted(extra)[0], ["log"])
    log, whole = "log" in tags, isinstance(low, int) and isinstance(high, int)
    if not low < high:
        raise UserError(f"'{line.given}': the interval is empty; its first number must be the smaller one.")
    if log and low <= 0:
        raise UserError(f"'{line.given}': the logarithm of {low:g} is not a number; begin above 0.")
    return Interval(low, high, log, whole)


def _value(line: Line, dimension: Dimension) -> Any:
    if isinstance(dimension, Choice):
        if line.value not in dimension.values:
            raise unknown(f"value of {line.key}", line.value, dimension.values)
        return line.value
    try:
        value = int(line.value) if dimension.whole else float(line.value)
    except ValueError:
        raise UserError(f"{line.given}: a number is needed.") from None
    if not dimension.low <= value <= dimension.high:
        low, high = dimension.ends()
        raise UserError(f"{line.given}: outside of the interval from {low} to {high}.")
    return value
