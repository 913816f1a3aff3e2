"""How devices share a training: the values of trainer.strategy, and Lightning's strategy for each."""

from __future__ import annotations

import importlib.util
from typing import Any

from fdlab.errors import UserError, unknown

FSDP = "fsdp"
ZERO = {"zero1": 1, "zero2": 2}
"""To the stage."""
STRATEGIES = ("auto", "ddp", FSDP, *ZERO)


def check(name: str, precision: str = "auto") -> None:
    """Whether a strategy is one, goes with a precision, and what it needs is here. Raises: UserError."""
    if name not in STRATEGIES:
        raise unknown("trainer.strategy", name, STRATEGIES)
    if precision == "fp16" and name in (FSDP, *ZERO):
        raise UserError(
            f"trainer.precision=fp16 does not go with trainer.strategy={name}, which scales no loss; use"
            " ddp, or bf16."
        )
    if name in ZERO and importlib.util.find_spec("deepspeed") is None:
        raise UserError(f"trainer.strategy={name} needs DeepSpeed: pip install 'fdlab[deepspeed]'.")


def make(name: str, precision: str, clip: float) -> tuple[Any, str]:
    """Lightning's strategy, and the precision that Lightning itself is to keep to."""
    if name == FSDP:
        from fdlab.engine.sharding import FullySharded

        return FullySharded(), precision
    if name in ZERO:
        from fdlab.engine.zero import ZeRO

        # Its weights stay in fp32, and bf16 is its own affair: Lightning would have it keep them in bf16.
        return ZeRO(ZERO[name], clip, precision != "32-true"), "32-true"
    return name, precision
