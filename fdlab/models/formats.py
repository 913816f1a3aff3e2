"""What the JSON files of a model folder may say, one schema a format: foreign files are trusted no further.

Whatever else they say ends in one line that names file, key, value, and what is allowed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdlab.errors import UserError

LARGEST_FILE = 64 * 2**20
"""Bytes; a vocabulary has a million, a config a few thousand."""
WIDEST, DEEPEST, LONGEST = 2**20, 256, 64
"""Bounds of any width, number of layers and list in a network's config: beyond them time and memory run out
before the tensors can show that they do not fit."""
LARGEST = 1e30
_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false", list: "a list",
          dict: "an object", type(None): "null"}  # fmt: skip


@dataclass(frozen=True)
class Key:
    """What the value of a key may be; one that is absent is no fault."""

    kinds: tuple[type, ...]
    low: float = -LARGEST
    high: float = LARGEST
    choices: tuple[str, ...] = ()
    items: Key | None = None
    """What each item of a list may be."""
    longest: int = LONGEST

    def check(self, name: str, value: Any, file: Path) -> None:
        """Raise UserError for any other value."""
        number = type(value) is int and float in self.kinds
        if type(value) not in self.kinds and not number:
            raise _wrong(file, name, value, " or ".join(_NAMES[kind] for kind in self.kinds))
        if type(value) in (int, float) and not self.low <= value <= self.high:  # NaN neither
            raise _wrong(file, name, value, f"{self.low:g} to {self.high:g}")
        if isinstance(value, str) and self.choices and value not in self.choices:
            raise _wrong(file, name, value, ", ".join(self.choices))
        if isinstance(value, list):
            if len(value) > self.longest:
                raise UserError(
                    f"'{file}': {name} has {len(value)} items; at most {self.longest} are allowed."
                )
            for item in value if self.items is not None else ():
                assert self.items is not None
                self.items.check(name, item, file)


Schema = Mapping[str, Key]
_COUNT = Key((int, type(None)), low=0)

TRAINING: Schema = {
    "steps": _COUNT,
    "steps_of_this_run": _COUNT,
    "kind": Key((str,), choices=("tdm", "sdm")),
}
"""training.json: what is known about fine-tuned weights."""

_FRACTION = Key((float,), low=0, high=1)
SCHEDULER: Schema = {
    "num_train_timesteps": Key((int,), low=1, high=100_000),
    "beta_start": _FRACTION,
    "beta_end": _FRACTION,
    "beta_schedule": Key((str,), choices=("linear", "scaled_linear", "squaredcos_cap_v2")),
    "trained_betas": Key((list, type(None)), items=_FRACTION, longest=100_000),
    "prediction_type": Key((str,), choices=("epsilon", "v_prediction")),
    "timestep_spacing": Key((str,), choices=("leading", "trailing", "linspace")),
    "rescale_betas_zero_snr": Key((bool,)),
    "steps_offset": Key((int,), low=0, high=1000),
}
"""scheduler_config.json, as far as the noise that a model was trained with follows from it."""


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object. Raises: UserError when missing, no file, too large, or not JSON."""
    try:
        if not file.is_file():
            raise UserError(f"'{file}' is no file." if file.exists() else f"'{file}' is missing.")
        if file.stat().st_size > LARGEST_FILE:
            raise UserError(f"'{file}' has more than {LARGEST_FILE // 2**20} MiB; it is no JSON of a model.")
        value = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"'{file}' cannot be read: {error.strerror}.") from error
    # Not JSON, not UTF-8, a number of too many digits; nested too deep.
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"'{file}' is no JSON: {str(error)[:200]}.") from error
    if not isinstance(value, dict):
        raise UserError(f"'{file}' is no JSON object.")
    return value


def read(file: Path, schema: Schema) -> dict[str, Any]:
    """A JSON object whose keys are as `schema` says, as far as it names them. Raises: UserError."""
    value = read_json(file)
    for name, key in schema.items():
        if name in value:
            key.check(name, value[name], file)
    return value


def _wrong(file: Path, name: str, value: Any, allowed: str) -> UserError:
    shown = json.dumps(value, default=str)
    return UserError(f"'{file}': {name} is {shown[:80]}; allowed: {allowed}.")
