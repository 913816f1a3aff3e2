"""Batches of fixed composition: what is drawn together decides last bits, so no kill may decide it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def whole_batches(items: Sequence[T], size: int) -> list[list[T]]:
    """All of `items` in their order, `size` a batch; the last may be smaller."""
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


def unfinished(items: Sequence[T], size: int, missing: Callable[[T], bool]) -> list[list[T]]:
    """The whole batches in which anything is missing."""
    return [batch for batch in whole_batches(items, size) if any(map(missing, batch))]
