"""Exponential averaging of the trained weights, by name (Polyak & Juditsky 1992), warmed up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from fdlab.engine.fetching import Fetching
from fdlab.errors import UserError
from fdlab.sharded import local, slice_like

Place = Literal["same", "cpu"]
"""Where averages are: with the weights, or in host memory."""


class Averaging:
    """Averages of named parameters; `decay` of 0 averages nothing and costs nothing.

    After step s (from 0) the decay in use is min(decay, (1 + s) / (10 + s)), so that a short run forgets its
    start. In host memory (`place` "cpu") they take nothing of a GPU's: after each step its weights are
    fetched, and averaged while the next step is computed.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float, place: Place = "same") -> None:
        if not 0 <= decay < 1:
            raise UserError(f"the decay of weight averaging is {decay}; it must lie in [0, 1) (0: none).")
        self.parameters, self.decay, self.place = dict(parameters), decay, place
        self._fetching: Fetching | None = None
        self._averages: dict[str, Tensor] = {}
        if decay:
            self._averages = {name: p.detach().clone() for name, p in self.parameters.items()}

    @property
    def average(self) -> dict[str, Tensor]:
        """Averages by name, once the last update is made."""
        self._settle()
        return self._averages

    @average.setter
    def average(self, averages: dict[str, Tensor]) -> None:
        self._settle()
        self._averages = averages

    def decay_at(self, step: int) -> float:
        """Decay in use after optimiser step `step`, counted from 0."""
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the averages towards the weights as they are after optimiser step `step`."""
        if not self._averages:
            return
        weights = [local(p.detach()) for p in self.parameters.values()]
        averages = [local(average) for average in self._averages.values()]
        share = 1 - self.decay_at(step)
        if self._fetching is None:
            torch._foreach_lerp_(averages, weights, share)
        else:
            self._fetching.fetch(weights, lambda values: torch._foreach_lerp_(averages, values, share))

    def let_weights_change(self) -> None:
        """Before each step of the optimiser: what the last update fetches has to be fetched."""
        if self._fetching is not None:
            self._fetching.let_change()

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """The averages in the parameters' place; the weights come back whatever happens inside."""
        average = self.average
        if not average:
            yield
            return
        if self._fetching is not None:
            # In place: a second set of weights is what the device has no room for.
            kept = dict(zip(self.parameters, self._fetching.values, strict=True))
            _copy(kept, self.parameters)
            _copy(self.parameters, average)
        else:
            kept = {name: _put(p, average[name]) for name, p in self.parameters.items()}
        try:
            yield
        finally:
            if self._fetching is not None:
                _copy(self.parameters, kept)
            else:
                for name, parameter in self.parameters.items():
                    _put(parameter, kept[name])

    def to_parameters_device(self) -> None:
        """Follow the parameters after a move to another device, or get ready to be far from them."""
        if self.place == "cpu":
            if self._averages and any(p.device.type != "cpu" for p in self.parameters.values()):
                self.stay_on_host()
            return
        for name, parameter in self.parameters.items():
            if self._averages and self._averages[name].device != parameter.device:
                self._averages[name] = self._averages[name].to(parameter.device)

    @torch.no_grad()
    def stay_on_host(self) -> None:
        """Keep averages in host memory from now on, and room there for weights that are fetched."""
        self._settle()
        # In the weights' own memory format: else the host would walk through each in two orders at once.
        self._averages = {
            name: torch.empty_like(p, device="cpu", requires_grad=False).copy_(self._averages[name])
            for name, p in self.parameters.items()
        }
        self._fetching = Fetching([p.detach() for p in self.parameters.values()])

    def follow(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Go on with parameters that took the others' places, as these were sharded or made whole again."""
        self.parameters = dict(parameters)
        self.average = {
            name: slice_like(self._averages[name], p) for name, p in parameters.items() if self._averages
        }

    def state(self) -> dict[str, Tensor]:
        """Averages by name."""
        return dict(self.average)

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take averages from a checkpoint; from one without averages, start at the weights as they are."""
        for name, average in self.average.items():
            average.copy_(state[name] if state else self.parameters[name])

    def _settle(self) -> None:
        if self._fetching is not None:
            self._fetching.settle()


@torch.no_grad()
def _copy(into: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, tensor in into.items():
        tensor.copy_(values[name])


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
