"""Overrides as people type them, `KEY=VALUE`: what a line says, several values for a grid, and quoting.

The one place that knows Hydra's grammar. Keys that hold text do not go through it: their text is taken as it
stands, so that a prompt or a folder may hold any character. Within quotes it is what the quotes hold.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fdlab.errors import UserError, nearest

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

QUOTES = ("'", '"')
EXAMPLES = "seed=1 or +exp=sdm"
MAX_VALUES = 10_000
"""Of one key in a grid."""
_LINE = re.compile(r"(?P<mark>\+\+|\+|~|)(?P<key>[^=]*)(?P<equals>=?)(?P<value>.*)", re.DOTALL)
_PLAIN = re.compile(r"[A-Za-z_/.][A-Za-z0-9_/.-]*")
_OPEN, _CLOSED = "([{", ")]}"


@dataclass(frozen=True)
class Line:
    """One override. A plus before the key is left out: whether a key exists is known here."""

    given: str
    key: str
    value: str

    @classmethod
    def read(cls, given: str, hints: Sequence[str] = ()) -> Line:
        """Take a line apart. Raises: UserError; `hints` are overrides that a line without `=` may mean."""
        found = _LINE.fullmatch(given)
        assert found is not None
        if found["mark"] == "~":
            raise UserError(f"'{given}': keys cannot be removed; set a value instead.")
        if not found["key"].strip() or not found["equals"]:
            guess = next((hint for hint in hints if hint.partition("=")[2] == given), "")
            guess = guess or nearest(given, hints)
            hint = f" Did you mean '{guess}'?" if guess else ""
            raise UserError(f"cannot read '{given}'; write KEY=VALUE, as in {EXAMPLES}.{hint}")
        return cls(given, found["key"].strip(), found["value"])

    @property
    def text(self) -> str:
        """The value as text."""
        return unquoted(self.value)

    def texts(self) -> list[str]:
        """A list of texts, as in `[a.jpg,b.jpg]`. Raises: UserError."""
        inner = self.value.strip()
        if not (inner.startswith("[") and inner.endswith("]")):
            listed = f"{self.key}=[{quoted(self.text)}]"
            raise UserError(f"{self.key}={self.value}: a list [a,b] is needed, as in {listed}.")
        parts = [part.strip() for part in split(inner[1:-1])]
        return [unquoted(part) for part in parts] if any(parts) else []

    def parsed(self) -> Override:
        """The line as Hydra reads it. Raises: UserError."""
        from hydra.core.override_parser.overrides_parser import OverridesParser
        from hydra.errors import HydraException

        try:
            (override,) = OverridesParser.create().parse_overrides([f"{self.key}={self.value}"])
        except (HydraException, ValueError, RecursionError) as error:
            # What Python cannot read, as a number of a thousand digits, Hydra does not catch.
            raise UserError(f"cannot read '{self.given}'; write KEY=VALUE, as in {EXAMPLES}.") from error
        return override

    def values(self, is_text: bool) -> list[str]:
        """The line's value, or the several it names, as overrides write them. Raises: UserError."""
        if is_text and not re.match(r"(choice|range|interval|glob|shuffle|sort)\(", self.value):
            found = split(self.value)
        else:
            found = self._enumerated()
        seen: set[str] = set()
        for value in found:
            if value in seen:
                raise UserError(f"'{self.given}' gives {value} more than once.")
            seen.add(value)
        return found

    def _enumerated(self) -> list[str]:
        """As Hydra reads them: `1,2`, `choice(1,2)`, `range(1,3)`."""
        from hydra.core.override_parser.types import RangeSweep, ValueType

        override = self.parsed()
        if not override.is_sweep_override():
            return [self.value]
        if override.value_type == ValueType.INTERVAL_SWEEP:
            raise UserError(f"'{self.given}': an interval has no grid; give values, as in {self.key}=1,2.")
        if override.value_type == ValueType.GLOB_CHOICE_SWEEP:
            raise UserError(
                f"'{self.given}': patterns are not expanded; name the options, separated by commas."
            )
        sweep: Any = override.value()
        if isinstance(sweep, RangeSweep):
            # Shuffling makes a list of what may be endless: so it is counted first.
            steps = 0.0 if not sweep.step else (sweep.stop - sweep.start) / sweep.step  # type: ignore[operator]
            if not 0 < steps <= MAX_VALUES:
                much = f"more than {MAX_VALUES} values" if steps > 0 else "no value"
                raise UserError(f"'{self.given}' gives {much}; write range(FIRST,BEYOND_THE_LAST,STEP).")
        found = [str(text) for text in itertools.islice(override.sweep_string_iterator(), MAX_VALUES + 1)]
        if not 0 < len(found) <= MAX_VALUES:
            raise UserError(
                f"'{self.given}' gives {f'more than {MAX_VALUES} values' if found else 'no value'}."
            )
        return found


def split(text: str) -> list[str]:
    """The parts between commas, those within quotes and brackets aside."""
    return list(_parts(text))


def _parts(text: str) -> Iterator[str]:
    depth, quote, start = 0, "", 0
    balanced = sum(map(text.count, _OPEN)) == sum(map(text.count, _CLOSED))
    for index, character in enumerate(text):
        if quote:
            # As in Hydra's grammar: an odd number of backslashes before a quote makes it a character.
            before = text[start:index]
            escaped = (len(before) - len(before.rstrip("\\"))) % 2
            quote = "" if character == quote and not escaped else quote
        elif character in QUOTES and not text[start:index].strip() and character in text[index + 1 :]:
            # Only in front does a quote mean one: `bob's.jpg` is a name.
            quote = character
        elif balanced and character in _OPEN + _CLOSED:
            depth += 1 if character in _OPEN else -1
        elif character == "," and depth <= 0:
            yield text[start:index]
            start = index + 1
    yield text[start:]


def unquoted(text: str) -> str:
    """What a text's quotes hold; a text that is not quoted as a whole, as it is."""
    if len(text) < 2 or text[0] not in QUOTES or text[-1] != text[0]:
        return text
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import QuotedString
    from hydra.errors import HydraException

    try:
        (override,) = OverridesParser.create().parse_overrides([f"key={text}"])
    except (HydraException, ValueError):
        return text
    return override._value.text if isinstance(override._value, QuotedString) else text


def quoted(text: str) -> str:
    """A text for an override: as it is where nothing in it can be misread, else in double quotes."""
    if _PLAIN.fullmatch(text) and text.lower() not in ("true", "false", "null", "nan", "inf"):
        return text
    # In Hydra's grammar backslashes count only where a quote, or the end, follows.
    return '"' + re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), text) + '"'
