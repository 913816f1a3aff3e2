"""What a search varies: intervals, choices and ranges, in Hydra's words, checked before anything runs;
`if` says where a key exists.

    model.lr=tag(log,interval(1e-6,1e-3))         sampler.alpha=interval(0.1,0.4) if sampler=snf_prompt
    model.train_image_blocks=int(interval(0,2))   sampler.num_steps=range(10,51,10)
    model.optimizer=choice(adamw,muon)            seed=1,2,3
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fdlab.config.compose import compose
from fdlab.config.overrides import Line
from fdlab.errors import UserError, unknown
from fdlab.sweeps.conditions import Conditions, wants
from fdlab.sweeps.dimensions import Choice, Dimension, Interval, value_of, written
from fdlab.sweeps.trial import CONFIGS, Verb

IF = " if "


@dataclass(frozen=True)
class Space:
    """Everything that a search varies, by name, and the overrides that stay.

    A dimension's name is its key; of a key that is varied in several ways, its key and condition. Those that
    others depend on come first.
    """

    dimensions: Mapping[str, Dimension]
    fixed: tuple[str, ...]
    verb: Verb
    conditions: Mapping[str, Conditions] = field(default_factory=dict)
    """Of the dimensions that have some."""
    attached: tuple[tuple[str, Conditions], ...] = ()
    """Overrides that only some trials get."""

    def exists(self, name: str, point: Mapping[str, Any]) -> bool:
        """Whether a point, as far as it is chosen, has a dimension."""
        return all(condition.holds(point) for condition in self.conditions.get(name, ()))

    def walk(self, choose: Callable[[str, Dimension], Any]) -> dict[str, Any]:
        """A point, of whose dimensions each that exists is chosen, those that others depend on first."""
        point: dict[str, Any] = {}
        for name, dimension in self.dimensions.items():
            if self.exists(name, point):
                point[name] = choose(name, dimension)
        return point

    def every(self) -> Iterator[dict[str, str]]:
        """Every point of a space of choices, the last varying fastest, none twice. Raises: UserError for an
        interval."""
        items = [(name, _values(dimension)) for name, dimension in self.dimensions.items()]

        def below(place: int, point: dict[str, str]) -> Iterator[dict[str, str]]:
            if place == len(items):
                yield point
                return
            name, values = items[place]
            for more in [{name: value} for value in values] if self.exists(name, point) else [{}]:
                yield from below(place + 1, {**point, **more})

        return below(0, {})

    def overrides(self, point: Mapping[str, Any]) -> list[str]:
        """A trial's overrides. `point` as the study keeps it: numbers, or a choice's text."""
        attached = [word for word, given in self.attached if all(one.holds(point) for one in given)]
        varied = [f"{key_of(name)}={written(point[name])}" for name in self.dimensions if name in point]
        return [*self.fixed, *attached, *varied]

    def point(self, text: str) -> dict[str, Any]:
        """A point from `KEY=VALUE KEY=VALUE`. Raises: UserError for one that is not of this space."""
        lines: dict[str, Line] = {}
        for word in text.split():
            line = Line.read(word)
            if line.key not in map(key_of, self.dimensions):
                raise unknown(f"key of the point '{text}'", line.key, map(key_of, self.dimensions))
            lines[line.key] = line
        found: dict[str, Any] = {}
        for name, dimension in self.dimensions.items():
            if key_of(name) in lines and self.exists(name, found):
                found[name] = value_of(lines[key_of(name)], dimension)
        if strays := lines.keys() - set(map(key_of, found)):
            stray = min(strays)
            where = [self._where(name) for name in self.dimensions if key_of(name) == stray]
            raise UserError(f"the point '{text}' has {stray}, which exists only{' or'.join(where)}.")
        return found

    def described(self) -> dict[str, str]:
        """Each dimension in words, which a study compares itself by."""
        return {name: dimension.words + self._where(name) for name, dimension in self.dimensions.items()}

    def constant(self) -> list[str]:
        """What does not vary: the overrides of every trial, and those of some with their conditions."""
        return [*self.fixed, *(f"{word}{words(given)}" for word, given in self.attached)]

    def kept(self) -> list[str]:
        """As `constant`, but for where files go and who is told of it, which makes no other search."""
        return whatever_the_place(self.constant())

    def _where(self, name: str) -> str:
        return words(self.conditions.get(name, ()))

    def check(self) -> None:
        """Compose each end of each dimension, wherever it exists, and a number between. Raises: UserError."""
        for name, dimension in self.dimensions.items():
            self._check_between(name, dimension)
            for place, way in enumerate(self.ways(self.conditions.get(name, ()))):
                for value in dimension.ends()[: None if not place else 1]:
                    self._try({**way, name: value})
        for _, given in self.attached:
            for way in self.ways(given):
                self._try(way)

    def _check_between(self, name: str, dimension: Dimension) -> None:
        if not isinstance(dimension, Interval):
            return
        way = next(self.ways(self.conditions.get(name, ())))
        for value in dimension.between():
            self._try({**way, name: dimension.ends()[0]})
            try:
                self._try({**way, name: value})
            except UserError as error:
                key, ends = key_of(name), ",".join(dimension.ends())
                hint = f"for whole numbers write {key}=int(interval({ends}))."
                raise UserError(f"{str(error).rstrip('.')}; {hint}") from None

    def ways(self, conditions: Conditions) -> Iterator[dict[str, str]]:
        """The first values that make conditions hold, then each other value once."""
        wanted = wants(conditions, self.conditions)
        first = {key: values[0] for key, values in wanted.items()}
        yield first
        for key, values in wanted.items():
            for value in values[1:]:
                yield {**first, key: value}

    def _try(self, given: Mapping[str, str]) -> None:
        point = self.walk(lambda name, dimension: given.get(name, dimension.ends()[0]))
        compose(self.overrides(point), config_name=CONFIGS[self.verb])


def whatever_the_place(overrides: Sequence[str]) -> list[str]:
    """Overrides without folders and loggers."""
    return [word for word in overrides if not word.lstrip("+").startswith(("paths.", "logger"))]


def key_of(name: str) -> str:
    """The key that a dimension of this name varies."""
    return name.partition(IF)[0]


def words(conditions: Conditions) -> str:
    """` if KEY=VALUE and KEY=VALUE`, or an empty text."""
    return IF + " and ".join(one.words for one in conditions) if conditions else ""


def _values(dimension: Dimension) -> tuple[str, ...]:
    if isinstance(dimension, Choice):
        return dimension.values
    raise UserError("a grid tries every combination, and an interval has no end of values; give choices.")
