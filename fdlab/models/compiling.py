"""torch.compile for a denoiser: the whole of it, or its blocks, each shape of block once.

Blocks take a third of the time to compile (a UNet of three levels on one thread of a CPU: 83 s for 247, 32 s
for transformers alone). On CPUs torch 2.13 compiles both wrongly here: of the nano UNet's 324 gradients 8
came out wrong by blocks and 124 whole, which training finds before its first step. No GPU has run blocks yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

HOW = ("none", "blocks", "whole")
BLOCKS = ("BasicTransformerBlock", "JointTransformerBlock", "ResnetBlock2D")
"""Classes whose instances are computed many times a pass."""
MOST_SHAPES = 128
"""Graphs of one class; torch would stop compiling at 8, and a UNet has more widths and grids than that."""


def compile_denoiser(network: nn.Module, how: str, **options: Any) -> None:
    """Have a denoiser compiled in place, when it first runs; `options` are torch.compile's.

    Shapes are taken as they come, each compiled for itself: a training's stay what they are.
    """
    if how == "none":
        return
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MOST_SHAPES)
    for module in [network] if how == "whole" else _blocks(network):
        module.compile(**{"dynamic": False, **options})


def _blocks(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if type(module).__name__ in BLOCKS]


def is_compiled(network: nn.Module) -> bool:
    """Whether it is, or anything inside it."""
    return any(module._compiled_call_impl is not None for module in network.modules())


@contextmanager
def uncompiled(network: nn.Module) -> Iterator[None]:
    """Let a compiled network, and whatever is compiled inside it, run as it was written."""
    compiled: list[tuple[Any, Any]] = [(m, m._compiled_call_impl) for m in network.modules()]
    for module, _ in compiled:
        module._compiled_call_impl = None
    try:
        yield
    finally:
        for module, call in compiled:
            module._compiled_call_impl = call
