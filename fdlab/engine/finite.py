"""A training whose numbers are no longer finite stops before they do harm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from fdlab.engine.ranks import Ranks
from fdlab.errors import Failure

SHOWN = 16
"""Samples that a message names at most."""


class Diverged(Failure):
    """A loss, a gradient or a weight is not finite. Every process of a run raises it at the same step."""


@dataclass(frozen=True)
class Pass:
    """One forward pass: which samples it showed, and its loss."""

    ids: tuple[str, ...]
    loss: Tensor


def traced(loss: Tensor) -> Tensor:
    """The loss itself, to the bit; where it is not finite its gradient is none either.

    So the gradient's norm, which all processes share, tells of a bad loss in any of them.
    """
    return loss * (1 + 0 * loss.detach())


def diverged(step: int, passes: Sequence[Pass], saved: str) -> Diverged:
    """Make the error for optimiser step `step`, counted from 1, that was not made; from every process."""
    mine = [(one.ids, float(one.loss)) for one in passes]
    everything = [one for share in Ranks.here().gathered(mine) for one in share]
    bad = [one for one in everything if not math.isfinite(one[1])]
    ids = [id for one in bad or everything for id in one[0]]
    what = f"the loss is {bad[0][1]}" if bad else "the gradient is not finite"
    samples = ", ".join(ids[:SHOWN]) + (f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else "")
    return Diverged(
        f"training diverged: {what} at step {step}{f' (batch: {samples})' if ids else ''}. "
        f"Nothing of this step was applied; {saved}. "
        "Try a smaller model.lr, more model.warmup_steps or trainer.precision=32, under another name=."
    )
