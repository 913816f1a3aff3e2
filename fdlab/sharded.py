"""Tensors of which each device holds a slice (DTensor), and plain ones, which pass through unchanged."""

from __future__ import annotations

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def gathered(tensor: Tensor) -> Tensor:
    """A tensor whole; all devices together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """This device's slice, which shares its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def slice_like(whole: Tensor, like: Tensor) -> Tensor:
    """A whole tensor that every device has, as `like` is: sliced alike and on its device."""
    if not isinstance(like, DTensor):
        return whole.to(like.device, like.dtype)
    whole = whole.to(like.to_local().device, like.dtype)
    # Every device has all of it: nothing is to be sent.
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)
