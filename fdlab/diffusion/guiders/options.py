"""What an option of a guider may be, written beside it, where command line, checks and demo read it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

from fdlab.diffusion.conditioning import BASES
from fdlab.errors import UserError, unknown


@dataclass(frozen=True)
class Limit:
    """What a value may be: one of `choices`, or a number between its bounds."""

    choices: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf
    above: float = -math.inf
    """Like `low`, itself excluded."""
    below: float = math.inf
    """Like `high`, itself excluded."""
    whole: bool = False
    nullable: bool = False
    slider: str = ""
    """What a slider for it says; empty where a page needs none."""

    def check(self, name: str, value: Any) -> None:
        """Raises: UserError for a value that is not allowed."""
        if value is None and self.nullable:
            return
        if self.choices:
            if value not in self.choices:
                raise unknown(name, str(value), self.choices)
            return
        kinds = int if self.whole else (int, float)
        inside = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
        if not (inside and self.low <= value <= self.high and self.above < value < self.below):
            raise UserError(f"{name} is {value}; it must {self._bounds()}.")

    def _bounds(self) -> str:
        if self.low > -math.inf and self.high < math.inf:
            return f"lie in [{self.low:g}, {self.high:g}]"
        if self.above > -math.inf and self.below < math.inf:
            return f"lie between {self.above:g} and {self.below:g}"
        words = {"from": self.low, "above": self.above, "to": self.high, "below": self.below}
        bounds = [f" {word} {bound:g}" for word, bound in words.items() if math.isfinite(bound)]
        return f"be a {'whole ' if self.whole else ''}number{''.join(bounds)}"


def share(slider: str) -> Limit:
    """A share of the steps, or of the picture, that a page shows as a slider."""
    return Limit(low=0, high=1, slider=slider)


POSITIVE = Limit(above=0)
Base = Annotated[str, Limit(BASES)]
LastStep = Annotated[int | None, Limit(low=-1, whole=True, nullable=True)]
"""Counted from 0; -1 leaves the stage out."""
Alpha = Annotated[float, share("the TDM draws alone up to this share of the steps")]
Beta = Annotated[float, share("both up to this share, then the SDM")]
