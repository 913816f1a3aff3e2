"""Exponential averaging of the trained weights, by name (Polyak & Juditsky 1992), warmed up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fdlab.errors import UserError
from fdlab.sharded import local, slice_like


class Averaging:
    """Averages of named parameters; `decay` of 0 averages nothing and costs nothing.

    After step s (from 0) the decay in use is min(decay, (1 + s) / (10 + s)), so that a short run forgets its
    start.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        if not 0 <= decay < 1:
            raise UserError(f"the decay of weight averaging is {decay}; it must lie in [0, 1) (0: none).")
        self.parameters, self.decay = dict(parameters), decay
        self.average: dict[str, Tensor] = {}
        if decay:
            self.average = {name: p.detach().clone() for name, p in self.parameters.items()}

    def decay_at(self, step: int) -> float:
        """Decay in use after optimiser step `step`, counted from 0."""
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the averages towards the weights as they are after optimiser step `step`."""
        if self.average:
            weights = [local(p.detach()) for p in self.parameters.values()]
            averages = [local(average) for average in self.average.values()]
            torch._foreach_lerp_(averages, weights, 1 - self.decay_at(step))

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """The averages in the parameters' place; the weights come back whatever happens inside."""
        if not self.average:
            yield
            return
        weights = {name: _put(p, self.average[name]) for name, p in self.parameters.items()}
        try:
            yield
        finally:
            for name, parameter in self.parameters.items():
                _put(parameter, weights[name])

    def to_parameters_device(self) -> None:
        """Follow the parameters after a move to another device."""
        for name, parameter in self.parameters.items():
            if self.average and self.average[name].device != parameter.device:
                self.average[name] = self.average[name].to(parameter.device)

    def follow(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Go on with parameters that took the others' places, as these were sharded or made whole again."""
        self.parameters = dict(parameters)
        self.average = {
            name: slice_like(self.average[name], p) for name, p in parameters.items() if self.average
        }

    def state(self) -> dict[str, Tensor]:
        """Averages by name."""
        return dict(self.average)

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take averages from a checkpoint; from one without averages, start at the weights as they are."""
        for name, average in self.average.items():
            average.copy_(state[name] if state else self.parameters[name])


@torch.no_grad()
def _put(parameter: nn.Parameter, value: Tensor) -> Tensor:
    """Give a parameter another value; returns the one it had."""
    if parameter is local(parameter):
        before, parameter.data = parameter.data, value
        return before
    # Other views of a sharded one's memory are kept elsewhere: its numbers change, not its place.
    mine = local(parameter)
    before = mine.clone()
    mine.copy_(local(value))
    return before
