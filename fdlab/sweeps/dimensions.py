"""What one key of a search may be: numbers between two ends, or one of several values."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

from fdlab.config.overrides import Line
from fdlab.errors import UserError, unknown

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

    def between(self) -> list[str]:
        """A number that is no whole one, where such are drawn."""
        return [] if self.whole else [written(self.low + 0.381966 * (self.high - self.low))]

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


def written(value: Any) -> str:
    """A value as an override writes it: the same for the same number, so that a trial keeps its folder."""
    return format(value, ".6g") if isinstance(value, float) else str(value)


def read_dimension(line: Line, is_text: bool) -> Dimension | None:
    """What a line varies; None where it gives one value. Raises: UserError."""
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


def value_of(line: Line, dimension: Dimension) -> Any:
    """The value that a line gives, as a study keeps it. Raises: UserError where the dimension lacks it."""
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


def _interval(line: Line, low: Any, high: Any, tags: set[str]) -> Interval:
    if extra := tags - {"log"}:
        raise unknown(f"tag of '{line.given}'", sorted(extra)[0], ["log"])
    log, whole = "log" in tags, isinstance(low, int) and isinstance(high, int)
    if not low < high:
        raise UserError(f"'{line.given}': the interval is empty; its first number must be the smaller one.")
    if log and low <= 0:
        raise UserError(f"'{line.given}': the logarithm of {low:g} is not a number; begin above 0.")
    return Interval(low, high, log, whole)
