"""A run's state in one file of plain dicts and tensors: `torch.load(path, weights_only=True)` reads it.

    {"format": 1, "step", "kind", "parameters": {name: tensor}, "optimizer": {name: {slot: tensor}},
     "average": {name: tensor}, "scaler": {name: number}}

Only what learns is in it; frozen weights are not. `scaler` is there where fp16 scaled the loss.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fdlab.engine import optimizers, zero
from fdlab.engine.finite import Diverged
from fdlab.engine.module import Training
from fdlab.errors import UserError
from fdlab.files import whole
from fdlab.foreign import said
from fdlab.sharded import gathered, slice_like
from fdlab.weights.files import first_not_finite

FORMAT = 1
_SCALER = ("scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker")
LAST, BEST = "last.ckpt", "best.ckpt"
"""BEST is what an evaluation while training chose."""


class Unreadable(UserError):
    """A checkpoint is damaged, or its numbers are not finite: another one may serve."""


def collect(module: Training, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The state after `module.step` steps. Raises: Diverged where it is not finite, as no good state is.

    Of sharded weights: all devices together, and only the first gets tensors.
    """
    trained = module.trainable_parameters()
    state: dict[str, Any] = {
        "format": FORMAT,
        "kind": type(module).__name__,
        "step": module.step,
        "parameters": {name: p.detach() for name, p in trained.items()},
        "optimizer": _optimizer_states(module, optimizer),
        "average": module.averaging.state(),
    }
    if module.scaler is not None:
        state["scaler"] = module.scaler.state_dict()
    bad = (
        first_not_finite(_tensors(state))
        if module.shards is None
        else _gather(state, module.global_rank == 0)
    )
    if bad:
        raise Diverged(
            f"training diverged: after step {module.step} '{bad}' is not finite. This state is not kept; "
            "try a smaller model.lr under another name=."
        )
    return state


def _optimizer_states(module: Training, optimizer: Any) -> dict[str, dict[str, Tensor]]:
    trained = module.trainable_parameters()
    if module.zero is not None:
        return zero.states(optimizer, trained)
    return optimizers.states(module.optimization.optimizer, optimizer, trained)


def _gather(state: dict[str, Any], keep: bool) -> str | None:
    """Make tensors whole and, where they are kept, move them to the CPU, one after the other; the first that
    is not finite."""
    bad: str | None = None
    slots = [(f"{name} ({{}})", table) for name, table in state["optimizer"].items()]
    for named, table in [("{}", state["parameters"]), *slots, ("average of {}", state["average"])]:
        for key in table:
            whole = gathered(table[key])
            bad = bad or first_not_finite({named.format(key): whole})
            table[key] = whole.cpu() if keep else torch.empty(0)
    return bad


def write(path: Path, state: Mapping[str, Any]) -> None:
    """Write a collected state, whole or not at all."""
    # Through Python's stream, since torch's own writer does not say that the disk is full.
    with whole(path) as temporary, temporary.open("wb") as stream:
        torch.save(state, stream)


def read(path: Path, mapped: bool = False) -> dict[str, Any]:
    """Read a checkpoint to the CPU. Raises UserError when it is missing, Unreadable when it is damaged,
    not finite or none of fdlab's.

    `mapped`: tensors stay in the file until they are used, and processes of one machine share its pages; a
    file that is cut short in between ends the process.
    """
    state = _load(path, mapped)
    if bad := first_not_finite(_tensors(state)):
        raise Unreadable(
            f"checkpoint '{path}' holds '{bad}', which is not finite: its training had diverged."
        )
    return state


def step_of(path: Path) -> int:
    """The step of a checkpoint, without reading its tensors. Raises: Unreadable as `read` does."""
    return int(_load(path, mapped=True, sums=False)["step"])


def _load(path: Path, mapped: bool, sums: bool = True) -> dict[str, Any]:
    try:
        if sums:
            _check_sums(path)
        if not path.stat().st_size:
            raise Unreadable(f"checkpoint '{path}' is empty.")
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except FileNotFoundError:
        raise UserError(f"checkpoint '{path}' does not exist.") from None
    except Unreadable:
        raise
    except Exception as error:
        # What a damaged file makes of torch's readers (zip, pickle, storages) has no common base.
        raise Unreadable(f"checkpoint '{path}' cannot be read: {said(error)}.") from None
    if not _is_state(state):
        raise Unreadable(
            f"'{path}' is no checkpoint of fdlab's format {FORMAT}; give a run's checkpoints/*.ckpt."
        )
    return dict(state)


def _check_sums(path: Path) -> None:
    """Compare the file with the checksums in it, as torch does not. Raises: BadZipFile, OSError."""
    with zipfile.ZipFile(path) as archive:
        if (torn := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"the checksum of '{torn}' in it is another")


def _is_state(state: Any) -> bool:
    """Whether this is what `collect` makes, as far as types go."""
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        return False
    named = [state.get(key) for key in ("parameters", "average", "optimizer")]
    if not all(isinstance(part, dict) and all(isinstance(name, str) for name in part) for part in named):
        return False
    slots = list(state["optimizer"].values())
    tables = [state["parameters"], state["average"], *slots]
    return (
        isinstance(state.get("kind"), str)
        and type(state.get("step")) is int
        and state["step"] >= 0
        and all(isinstance(slot, dict) for slot in slots)
        and _is_scaler(state.get("scaler"))
        and all(_is_dense(tensor) for table in tables for tensor in table.values())
    )


def _is_scaler(value: Any) -> bool:
    """Whether these are GradScaler's numbers, or none."""
    if not isinstance(value, dict):
        return value is None
    numbers = [value.get(key) for key in _SCALER]
    return all(isinstance(number, int | float) and 0 <= number < math.inf for number in numbers)


def _is_dense(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and (value.is_floating_point() or value.dtype == torch.uint8)
        and value.device.type == "cpu"
    )


def _tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Every tensor of a state by a name that says where it is."""
    optimizer = {f"{name} ({s})": t for name, slots in state["optimizer"].items() for s, t in slots.items()}
    average = {f"average of {name}": tensor for name, tensor in state["average"].items()}
    return {**state["parameters"], **average, **optimizer}


def read_for(module: Training, path: Path, mapped: bool = False) -> dict[str, Any]:
    """Read a checkpoint that goes on with `module`. Raises UserError as `read` and `check` do."""
    state = read(path, mapped)
    check(state, module, path)
    return state


def check(state: dict[str, Any], module: Training, path: Path) -> None:
    """Refuse a checkpoint of another architecture, optimiser or experiment, naming the first difference."""
    trained = module.trainable_parameters()
    if state["kind"] != type(module).__name__:
        raise UserError(
            f"checkpoint '{path}' is of {state['kind']}, this run trains {type(module).__name__}."
        )
    stored, average = state["parameters"], state["average"]
    for name in sorted(set(stored) ^ set(trained)):
        where = "the checkpoint" if name in stored else "the model"
        raise UserError(f"checkpoint '{path}' is of another architecture: only {where} has '{name}'.")
    optimizer = module.optimization.optimizer
    kind = optimizers.KINDS[optimizer]
    shared = state["optimizer"].get(optimizers.SHARED, {})
    if state["optimizer"] and set(shared) != set(kind.shared):
        raise UserError(f"checkpoint '{path}' is of another optimiser than {optimizer}.")
    for name, parameter in trained.items():
        slots = state["optimizer"].get(name)
        if slots is not None and set(slots) not in kind.slots:
            raise UserError(f"checkpoint '{path}' is of another optimiser than {optimizer}: see '{name}'.")
        averaged = [average[name]] if name in average else []
        for tensor in (stored[name], *averaged):
            if tensor.shape != parameter.shape:
                raise UserError(
                    f"checkpoint '{path}' is of another architecture: '{name}' is "
                    f"{tuple(tensor.shape)} in it, "
                    f"{tuple(parameter.shape)} in the model."
                )
        for slot, tensor in (slots or {}).items():
            if tuple(tensor.shape) not in optimizers.shapes(slot, parameter.shape):
                raise UserError(f"checkpoint '{path}' is damaged: '{name}' ({slot}) has another shape.")
        if average and not averaged:
            raise UserError(f"checkpoint '{path}' is damaged: the average of '{name}' is missing.")


@torch.no_grad()
def restore_weights(state: dict[str, Any], module: Training) -> None:
    """Take weights, averages and step out of `state`, which may be as large as the run and is freed so."""
    for name, parameter in module.trainable_parameters().items():
        parameter.copy_(slice_like(state["parameters"].pop(name), parameter))
    module.averaging.load(state.pop("average"))
    module.step = int(state["step"])


def restore_optimizer(state: dict[str, Any], module: Training, optimizer: torch.optim.Optimizer) -> None:
    """Take the optimiser's state out of `state`; tensors go where their parameter is, counters where the
    optimiser keeps them."""
    if module.zero is not None:
        zero.restore(optimizer, module.trainable_parameters(), state["optimizer"])
        return
    if module.scaler is not None and state.get("scaler"):
        module.scaler.load_state_dict({key: state["scaler"][key] for key in _SCALER})
    name, fused = module.optimization.optimizer, bool(optimizer.defaults.get("fused"))
    optimizers.restore_shared(optimizer, state["optimizer"].pop(optimizers.SHARED, {}))
    for key, parameter in module.trainable_parameters().items():
        optimizer.state[parameter] = {
            slot: optimizers.restored(name, slot, value, parameter, fused)
            for slot, value in state["optimizer"].pop(key, {}).items()
        }
