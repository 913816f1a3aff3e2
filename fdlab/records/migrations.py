"""Records of older schema versions, brought to the present one step at a time.

`STEPS[v]` turns a record of version v into one of v + 1. Version 1 is the first that was ever written, so
there is no step yet; a change of the schema brings one, and old records stay readable for good.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fdlab.foreign import is_count

Step = Callable[[dict[str, Any]], dict[str, Any]]

STEPS: Mapping[int, Step] = {}


def migrated(record: Any, newest: int, steps: Mapping[int, Step] = STEPS) -> Any:
    """A record as version `newest` writes it, as far as steps lead there; what is no record comes back as it
    is, and the given one is not changed."""
    while isinstance(record, dict):
        version: Any = record.get("schema_version")
        if not is_count(version, 0) or version >= newest or version not in steps:
            break
        record = {**steps[version](dict(record)), "schema_version": version + 1}
    return record
