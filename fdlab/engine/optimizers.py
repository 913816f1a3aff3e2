"""The optimisers that fdlab trains with: how each is made, what it keeps of a parameter, how that is saved.

A checkpoint holds tensors by parameter and slot; what an optimiser keeps of all parameters together stands
under `SHARED`.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fdlab.errors import UserError
from fdlab.muon import Muon, takes_muon
from fdlab.sharded import slice_like

ADAM_SHARE = 0.07
"""Adam's learning rate for biases, norms and embeddings, as a share of Muon's for matrices."""
SHARED = "*"
"""In the place of a parameter's name."""
_BLOCK = 256
"""Numbers that share a scale in eight-bit states."""
_LEAST = 4096
"""Smaller parameters keep states of 32 bits."""

Parameters = Mapping[str, nn.Parameter]
Slots = dict[str, Tensor]


class Rates(Protocol):
    """What an optimiser is made with."""

    @property
    def lr(self) -> float: ...
    @property
    def betas(self) -> tuple[float, float]: ...
    @property
    def eps(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...


@dataclass(frozen=True)
class Kind:
    """One optimiser."""

    make: Callable[[Parameters, Rates], torch.optim.Optimizer]
    slots: tuple[set[str], ...]
    """What it keeps of a parameter: one of these."""
    counts: bool = False
    """Whether its `step` is a plain number, not a tensor."""
    shared: tuple[str, ...] = ()
    """What it keeps of all parameters, in its groups."""
    package: str = ""
    """What it comes from, where that is not PyTorch or fdlab itself."""
    least_lr: float = 0.0
    """Smaller learning rates are another optimiser's."""


def _adamw(trained: Parameters, rates: Rates) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        list(trained.values()),
        lr=rates.lr,
        betas=tuple(rates.betas),  # type: ignore[arg-type]
        eps=rates.eps,
        weight_decay=rates.weight_decay,
        fused=next(iter(trained.values())).device.type in ("cpu", "cuda"),
    )


def _muon(trained: Parameters, rates: Rates) -> torch.optim.Optimizer:
    return Muon(trained.items(), lr=rates.lr, adam_lr=rates.lr * ADAM_SHARE, weight_decay=rates.weight_decay)


def _adafactor(trained: Parameters, rates: Rates) -> torch.optim.Optimizer:
    return torch.optim.Adafactor(list(trained.values()), lr=rates.lr, weight_decay=rates.weight_decay)


def _adamw8bit(trained: Parameters, rates: Rates) -> torch.optim.Optimizer:
    """AdamW with states in eight bits (Dettmers et al. 2022, arXiv 2110.02861)."""
    import bitsandbytes

    made: torch.optim.Optimizer = bitsandbytes.optim.AdamW8bit(
        list(trained.values()),
        lr=rates.lr,
        betas=tuple(rates.betas),
        eps=rates.eps,
        weight_decay=rates.weight_decay,
    )
    return made


def _prodigy(trained: Parameters, rates: Rates) -> torch.optim.Optimizer:
    """Adam that finds its own learning rate (Mishchenko & Defazio 2024, arXiv 2306.06101)."""
    from prodigyopt import Prodigy

    # It prints what it was asked for.
    with contextlib.redirect_stdout(io.StringIO()):
        made: torch.optim.Optimizer = Prodigy(
            list(trained.values()),
            lr=rates.lr,
            betas=tuple(rates.betas),
            eps=rates.eps,
            weight_decay=rates.weight_decay,
            use_bias_correction=True,
        )
    return made


KINDS: dict[str, Kind] = {
    "adamw": Kind(_adamw, ({"step", "exp_avg", "exp_avg_sq"},)),
    "muon": Kind(_muon, ({"momentum"}, {"step", "mean", "square"})),
    "adafactor": Kind(_adafactor, ({"step", "row_var", "col_var"}, {"step", "variance"})),
    "adamw8bit": Kind(
        _adamw8bit,
        (
            {"step", "state1", "state2", "qmap1", "qmap2", "absmax1", "absmax2"},
            # Of fewer than 4,096 numbers.
            {"step", "state1", "state2"},
        ),
        counts=True,
        package="bitsandbytes",
    ),
    "prodigy": Kind(
        _prodigy,
        ({"step", "s", "p0", "exp_avg", "exp_avg_sq"},),
        counts=True,
        shared=("k", "d", "d_max", "d_numerator"),
        package="prodigyopt",
        # Its rate scales what it finds.
        least_lr=0.1,
    ),
}


def check(name: str, lr: float) -> None:
    """Look for what an optimiser needs. Raises: UserError for a package that is missing, or a rate that was
    meant for another."""
    kind = KINDS[name]
    if lr < kind.least_lr:
        raise UserError(
            f"model.lr={lr:g} is no rate for model.optimizer={name}, which finds its own: model.lr scales"
            f" that; give model.lr=1 (allowed: from {kind.least_lr:g})."
        )
    if kind.package:
        try:
            importlib.import_module(kind.package)
        except ModuleNotFoundError as error:
            raise UserError(
                f"model.optimizer={name} needs {kind.package}: pip install 'fdlab[optimizers]'."
            ) from error


def state_bytes(name: str, trained: Parameters) -> int:
    """Bytes of what an optimiser keeps on the device once it has made a step, counters aside."""
    total = 0
    for key, parameter in trained.items():
        for slot in _kept(name, key, parameter) - {"step", "qmap1", "qmap2"}:
            (shape, *_) = shapes(slot, parameter.shape)
            eight = slot in ("state1", "state2") and parameter.numel() >= _LEAST
            total += math.prod(shape) * (1 if eight else 4)
    return total


def _kept(name: str, key: str, parameter: Tensor) -> set[str]:
    """The slots of one parameter."""
    first, *others = KINDS[name].slots
    is_first = {
        "muon": takes_muon(key, parameter),
        "adafactor": parameter.ndim > 1,
        "adamw8bit": parameter.numel() >= _LEAST,
    }.get(name, True)
    return first if is_first else others[0]


def split(optimizer: torch.optim.Optimizer, trained: Parameters, shares: Mapping[str, float]) -> None:
    """Give parameters of some names a share of their group's learning rate: a group of their own, as
    `Training.optimizer_step` reads it."""
    share_of = {id(trained[name]): share for name, share in shares.items()}
    for group in list(optimizer.param_groups):
        for share in sorted({share_of.get(id(p), 1.0) for p in group["params"]} - {1.0}):
            own = [p for p in group["params"] if share_of.get(id(p)) == share]
            group["params"] = [p for p in group["params"] if share_of.get(id(p)) != share]
            peak = share * group.get("peak_lr", group["lr"])
            optimizer.param_groups.append({**group, "params": own, "lr": peak, "peak_lr": peak})
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]


def states(name: str, optimizer: torch.optim.Optimizer, trained: Parameters) -> dict[str, Slots]:
    """What an optimiser keeps, by parameter and slot, as tensors."""
    kept = {key: optimizer.state[p] for key, p in trained.items() if p in optimizer.state}
    found = {key: {s: _tensor(value) for s, value in slots.items()} for key, slots in kept.items()}
    shared = KINDS[name].shared
    if shared and found:
        group = optimizer.param_groups[0]
        found[SHARED] = {slot: torch.tensor(float(group[slot]), dtype=torch.float64) for slot in shared}
    return found


def _tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.tensor(float(value))


def restore_shared(optimizer: torch.optim.Optimizer, kept: Mapping[str, Tensor]) -> None:
    """Give what is shared back to the groups."""
    for slot, value in kept.items():
        number = float(value)
        for group in optimizer.param_groups:
            group[slot] = int(number) if slot == "k" else number


def restored(name: str, slot: str, value: Tensor, parameter: nn.Parameter, fused: bool) -> Any:
    """One slot as the optimiser keeps it: numbers of a parameter where it is, counters where it looks for
    them."""
    if slot == "step" and KINDS[name].counts:
        return int(value)
    if slot == "step":
        return value.to(parameter.device if fused else "cpu")
    if value.shape == parameter.shape and value.is_floating_point():
        # In the parameter's own memory format.
        return torch.empty_like(parameter).copy_(slice_like(value, parameter))
    return value.to(parameter.device)


def shapes(slot: str, shape: torch.Size) -> Iterable[tuple[int, ...]]:
    """The shapes that a slot of a parameter of `shape` may have."""
    numel = math.prod(shape)
    if slot == "step":
        return ((), (1,))
    if slot in ("row_var", "col_var"):
        # Sums over rows' entries or columns'; a vector has neither.
        whole = list(shape) if len(shape) > 1 else [0, 0]
        whole[-1 if slot == "row_var" else -2] = 1
        return (tuple(whole),)
    if slot in ("qmap1", "qmap2"):
        return ((_BLOCK,),)
    if slot in ("absmax1", "absmax2"):
        return ((-(-numel // _BLOCK),),)
    if slot == "s":
        return ((numel,),)
    if slot == "p0":
        # A parameter that began as zeros is one 0.
        return ((numel,), ())
    return (tuple(shape),)
