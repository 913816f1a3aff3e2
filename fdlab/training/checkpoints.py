"""A run's state in one file of plain dicts and tensors: `torch.load(path, weights_only=True)` reads it.

    {"format": 1, "step", "kind", "parameters": {name: tensor}, "optimizer": {name: {slot: tensor}},
     "average": {name: tensor}}

Only what learns is in it; frozen weights are not.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from fdlab.errors import UserError
from fdlab.files import whole
from fdlab.training.module import Training

FORMAT = 1
LAST, BEST = "last.ckpt", "best.ckpt"
"""BEST is what an evaluation while training chose."""


def write(path: Path, module: Training, optimizer: torch.optim.Optimizer) -> None:
    """Write the state after `module.step` steps, whole or not at all."""
    trained = module.trainable_parameters()
    state = {
        "format": FORMAT,
        "kind": type(module).__name__,
        "step": module.step,
        "parameters": {name: p.detach() for name, p in trained.items()},
        "optimizer": {name: dict(optimizer.state[p]) for name, p in trained.items() if p in optimizer.state},
        "average": module.averaging.state(),
    }
    # Through Python's stream, since torch's own writer does not say that the disk is full.
    with whole(path) as temporary, temporary.open("wb") as stream:
        torch.save(state, stream)


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint to the CPU. Raises UserError when it is missing, damaged or not one of fdlab's."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"checkpoint '{path}' does not exist.") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise UserError(f"checkpoint '{path}' cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UserError(
            f"'{path}' is no checkpoint of fdlab's format {FORMAT}; give a run's checkpoints/*.ckpt."
        )
    return state


def read_for(module: Training, path: Path) -> dict[str, Any]:
    """Read a checkpoint that goes on with `module`. Raises UserError as `read` and `check` do."""
    state = read(path)
    check(state, module, path)
    return state


def check(state: dict[str, Any], module: Training, path: Path) -> None:
    """Refuse a checkpoint of another architecture or experiment, naming the first difference."""
    trained = module.trainable_parameters()
    if state["kind"] != type(module).__name__:
        raise UserError(
            f"checkpoint '{path}' is of {state['kind']}, this run trains {type(module).__name__}."
        )
    stored = state["parameters"]
    for name in sorted(set(stored) ^ set(trained)):
        where = "the checkpoint" if name in stored else "the model"
        raise UserError(f"checkpoint '{path}' is of another architecture: only {where} has '{name}'.")
    for name, parameter in trained.items():
        if stored[name].shape != parameter.shape:
            raise UserError(
                f"checkpoint '{path}' is of another architecture: '{name}' is "
                f"{tuple(stored[name].shape)} in it, "
                f"{tuple(parameter.shape)} in the model."
            )


@torch.no_grad()
def restore_weights(state: dict[str, Any], module: Training) -> None:
    """Take weights, averages and step out of `state`, which may be as large as the run and is freed so."""
    for name, parameter in module.trainable_parameters().items():
        parameter.copy_(state["parameters"].pop(name))
    module.averaging.load(state.pop("average"))
    module.step = int(state["step"])


def restore_optimizer(state: dict[str, Any], module: Training, optimizer: torch.optim.Optimizer) -> None:
    """Take the optimiser's state out of `state`; tensors go where their parameter is, counters where the
    optimiser keeps them."""
    fused = bool(optimizer.defaults.get("fused"))
    for name, parameter in module.trainable_parameters().items():
        slots = {}
        for slot, value in state["optimizer"].pop(name, {}).items():
            if slot == "step":
                slots[slot] = value.to(parameter.device if fused else "cpu")
            else:
                slots[slot] = torch.empty_like(parameter).copy_(value)
        optimizer.state[parameter] = slots
