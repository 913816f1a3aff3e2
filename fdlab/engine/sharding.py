"""Weights, gradients and optimiser states shared out over devices (FSDP2): networks in pieces, and whole
again.

Zhao et al. 2023 (arXiv 2304.11277), in torch's form for single parameters: each is a DTensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn

from fdlab.sharded import gathered


class FullySharded(ModelParallelStrategy):
    """Lightning's strategy for modules that are sharded by themselves, over all devices of all nodes."""

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """Lightning's hook."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()


class Shards:
    """Networks whose blocks are sharded one by one, so that one at a time is whole while they compute."""

    def __init__(self, networks: Iterable[nn.Module], mesh: Any) -> None:
        from torch.distributed.fsdp import fully_shard

        self.networks = list(networks)
        self._classes = {module: type(module) for network in self.networks for module in network.modules()}
        for network in self.networks:
            network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
            for block in _blocks(network):
                fully_shard(block, mesh=mesh)
            fully_shard(network, mesh=mesh)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """The networks whole on every device, so that each may compute what the others do not; all devices
        enter together."""
        for module in self._sharded():
            module.set_reshard_after_forward(False)
            module.unshard()
        try:
            yield
        finally:
            for module in self._sharded():
                module.reshard()
                # A network itself stays whole between its forward and its backward pass.
                module.set_reshard_after_forward(module not in self.networks)

    @torch.no_grad()
    def undo(self) -> None:
        """Make plain networks of them, on the CPU; all devices together. They can be saved, not run."""
        for module, kind in self._classes.items():
            for name, parameter in list(module.named_parameters(recurse=False)):
                plain = nn.Parameter(gathered(parameter).cpu(), parameter.requires_grad)
                module.register_parameter(name, plain)
            module.__class__ = kind

    def _sharded(self) -> list[Any]:
        from torch.distributed.fsdp import FSDPModule

        return [module for module in self._classes if isinstance(module, FSDPModule)]


def _blocks(network: nn.Module) -> Iterator[nn.Module]:
    """The elements of the outermost lists of modules: a UNet's levels, a transformer's layers."""
    for child in network.children():
        if isinstance(child, nn.ModuleList):
            yield from (block for block in child if next(block.parameters(), None) is not None)
        else:
            yield from _blocks(child)


def owners(
    networks: Iterable[nn.Module], named: Mapping[str, nn.Parameter]
) -> dict[str, tuple[nn.Module, str]]:
    """The module that holds each parameter, and what it calls it."""
    names = {id(parameter): name for name, parameter in named.items()}
    found = {}
    for network in networks:
        for module in network.modules():
            for attribute, parameter in module.named_parameters(recurse=False):
                if id(parameter) in names:
                    found[names[id(parameter)]] = (module, attribute)
    return {name: found[name] for name in named}
