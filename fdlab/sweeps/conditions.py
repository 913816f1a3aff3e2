"""Where a key of a search exists: `KEY=VALUES if OTHER=VALUE,VALUE and ...`, split off before Hydra reads the
rest."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fdlab.config.overrides import QUOTES, Line
from fdlab.errors import UserError, unknown
from fdlab.sweeps.dimensions import Choice, Dimension

_SUFFIX = re.compile(r"(?P<head>.*?\S)\s+if\s+(?P<tail>.*)", re.DOTALL)
_AND = re.compile(r"\s+and\s+")


@dataclass(frozen=True)
class Condition:
    """That a key of the search has one of some values."""

    key: str
    values: tuple[str, ...]

    def holds(self, point: Mapping[str, object]) -> bool:
        """Whether a point has it; a key that does not exist in a point has no value."""
        return point.get(self.key) in self.values

    @property
    def words(self) -> str:
        return f"{self.key}={','.join(self.values)}"


Conditions = tuple[Condition, ...]
"""All have to hold."""
Wants = dict[str, tuple[str, ...]]
"""The values that each of some keys may have."""


@dataclass(frozen=True)
class Asked:
    """A word of a command, its condition apart."""

    given: str
    head: str
    lines: tuple[Line, ...]
    """A line a condition, `OTHER=VALUE,VALUE`; none: it holds always."""

    @classmethod
    def read(cls, word: str) -> Asked:
        """Take a word apart. Raises: UserError."""
        found = _SUFFIX.fullmatch(word)
        if found is None or _is_quoted(word):
            return cls(word, word, ())
        parts = _AND.split(found["tail"].strip())
        if not all(re.fullmatch(r"\+?[\w.]+=.+", part) for part in parts):
            raise UserError(
                f"cannot read '{word}'; write KEY=VALUES if OTHER=VALUE, as in "
                "'sampler.alpha=interval(0.1,0.4) if sampler=snf_prompt'."
            )
        return cls(word, found["head"], tuple(map(Line.read, parts)))

    @property
    def key(self) -> str:
        """The key that it gives."""
        return self.head.partition("=")[0].lstrip("+~").strip()

    def conditions(self, dimensions: Mapping[str, Dimension]) -> Conditions:
        """Its conditions, checked against what they name. Raises: UserError."""
        return tuple(self._condition(line, dimensions[line.key]) for line in self.lines)

    def _condition(self, line: Line, parent: Dimension) -> Condition:
        if not isinstance(parent, Choice):
            raise UserError(
                f"'{self.given}': {line.key} is any of {parent.words}; a condition needs a key with named "
                f"values, as in {line.key}={','.join(parent.ends())}."
            )
        values = line.values(is_text=True)
        for value in values:
            if value not in parent.values:
                raise unknown(f"value of {line.key} in '{self.given}'", value, parent.values)
        return Condition(line.key, tuple(values))


def wants(conditions: Conditions, by_key: Mapping[str, Conditions]) -> Wants:
    """What keys have to be for conditions to hold, those of the keys themselves included; empty values:
    nothing can."""
    found: Wants = {}
    for condition in conditions:
        above = wants(by_key.get(condition.key, ()), by_key)
        for key, values in [*above.items(), (condition.key, condition.values)]:
            found[key] = tuple(value for value in found.get(key, values) if value in values)
    return found


def exclude(one: Wants, other: Wants) -> bool:
    """Whether two never hold together."""
    return any(not set(one[key]) & set(other[key]) for key in one.keys() & other.keys())


def in_order(asked: Sequence[Asked]) -> list[Asked]:
    """Words with conditions, each behind those that it depends on. Raises: UserError for a circle."""
    left, done = list(asked), list[Asked]()
    while left:
        waiting = {word.key for word in left}
        ready = [word for word in left if not any(line.key in waiting for line in word.lines)]
        if not ready:
            keys = ", ".join(dict.fromkeys(word.key for word in left))
            raise UserError(f"'{left[0].given}': conditions go in a circle, through {keys}.")
        done += ready
        left = [word for word in left if word not in ready]
    return done


def _is_quoted(word: str) -> bool:
    """Whether the whole value stands in quotes: `label='what if a=b'` has no condition."""
    value = word.partition("=")[2].strip()
    return len(value) > 1 and value[0] in QUOTES and value[-1] == value[0] and value.count(value[0]) == 2
