"""Weights that do not learn, as lean as a training step allows: rounded as it computes with them anyway, or
in host memory where it does not need them; whole again while something is drawn, and at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

ROUNDED = (nn.Linear, _ConvNd)
"""Layers whose weights autocast rounds whenever it computes with them; those of norms and embeddings stay."""


@dataclass(frozen=True)
class Lean:
    """Which parts are lean in which way.

    Rounded once or each time, a step computes the same to the bit, as long as it does so under autocast.
    """

    resting: frozenset[str] = frozenset()
    """Parts that no step needs."""
    exact: frozenset[str] = frozenset()
    """Parts that a step computes with outside of autocast."""
    dtype: torch.dtype | None = None
    """Autocast's; None: nothing is rounded."""

    def rounded(self, parts: Mapping[str, nn.Module]) -> list[nn.Parameter]:
        """The parameters that are rounded."""
        if self.dtype is None:
            return []
        networks = [network for part, network in parts.items() if part not in self.resting | self.exact]
        layers = [layer for network in networks for layer in network.modules() if isinstance(layer, ROUNDED)]
        return _frozen(p for layer in layers for p in layer.parameters(recurse=False))

    def away(self, parts: Mapping[str, nn.Module]) -> list[nn.Parameter]:
        """The parameters that wait in host memory."""
        return _frozen(p for part in sorted(self.resting & set(parts)) for p in parts[part].parameters())


class Kept:
    """The exact weights in host memory of what is lean on `device`, from now until `undo`.

    The parameters stay the same objects, and so do buffers, which are small.
    """

    def __init__(self, lean: Lean, parts: Mapping[str, nn.Module], device: torch.device) -> None:
        self._dtype, self._device = lean.dtype, device
        self._rounded = lean.rounded(parts)
        # Of a CPU's weights the host's memory is the device's.
        self._away = lean.away(parts) if device.type != "cpu" else []
        self._exact = {id(p): p.detach().to("cpu") for p in (*self._rounded, *self._away)}
        self._slim()

    def _slim(self) -> None:
        for parameter in self._rounded:
            parameter.data = parameter.data.to(self._dtype)
        for parameter in self._away:
            parameter.data = self._exact[id(parameter)]

    @contextmanager
    def whole(self) -> Iterator[None]:
        """The exact weights on the device; lean again afterwards, whatever happens inside."""
        self._widen(self._sent)
        try:
            yield
        finally:
            self._slim()

    def undo(self) -> None:
        """The exact weights for good, in host memory."""
        self._widen(lambda exact: exact)
        self._rounded, self._away, self._exact = [], [], {}

    def _sent(self, exact: Tensor) -> Tensor:
        """To the device."""
        return exact.to(self._device)

    def _widen(self, brought: Callable[[Tensor], Tensor]) -> None:
        for parameter in (*self._rounded, *self._away):
            parameter.data = brought(self._exact[id(parameter)])


def _frozen(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Those that do not learn, each once."""
    return list({id(p): p for p in parameters if not p.requires_grad}.values())
