"""Weights kept in eight bits: half the size of fp16, for what is only read to go on from, or bears it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fdlab.errors import UserError

SCALE = ".scale"
"""What stands behind a rounded tensor's name in that of its scales."""


def rounded(state: Mapping[str, Tensor], axes: int = 2) -> dict[str, Tensor]:
    """A state as it is kept: tensors of at least so many axes as int8 with a scale for each entry of the
    first one (an output channel), all others in half."""
    kept: dict[str, Tensor] = {}
    for name, tensor in state.items():
        value = tensor.detach().cpu().float()
        if value.ndim < axes:
            kept[name] = value.half()
            continue
        kept[name + SCALE] = (value.abs().flatten(1).amax(1) / 127).clamp(min=1e-6).half()
        steps = (value / _along(kept[name + SCALE], value)).round().clamp(-127, 127)
        kept[name] = steps.to(torch.int8)
    return {name: value.contiguous() for name, value in kept.items()}


def unrounded(kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state behind what `rounded` made, fp32 where it was rounded; any other state as it is.

    Raises: UserError for a rounded tensor whose scales are gone or damaged.
    """
    state = dict(kept)
    for name, tensor in kept.items():
        if tensor.dtype != torch.int8:
            continue
        scale = kept.get(name + SCALE)
        if scale is None or not tensor.ndim or scale.shape != tensor.shape[:1] or not bool((scale > 0).all()):
            raise UserError(f"tensor '{name}' is kept in eight bits, and its scales are missing or damaged.")
        state[name] = tensor.float() * _along(scale, tensor)
        del state[name + SCALE]
    return state


def _along(scale: Tensor, like: Tensor) -> Tensor:
    return scale.float().reshape(-1, *[1] * (like.ndim - 1))
