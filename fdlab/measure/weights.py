"""Networks that measure: weights from a file, frozen, in evaluation mode, known by their hash."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from fdlab.assets import ROOT
from fdlab.errors import UserError
from fdlab.files import sha256
from fdlab.weights.files import check_finite, read_pickled, read_weights

SHIPPED = ROOT / "faces"
PREFIXES = ("model.", "module.", "backbone.")
"""What wrappers put before every name of a network's tensors."""
MAX_NAMES = 3


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read every tensor of a safetensors file to the CPU; UserError where it is missing or broken."""
    if not path.is_file():
        raise UserError(f"weights '{path}' are missing; they ship with fdlab: install it again.")
    return read_weights(path)


def load_state(path: Path) -> dict[str, Tensor]:
    """A network's state dict from a user's file: safetensors, or torch's own format with tensors alone.

    A Lightning checkpoint's `state_dict` is taken, a wrapper's prefix removed. Raises: UserError for a file
    that cannot be read without running code of its own (TorchScript, pickled objects) or holds no tensors.
    """
    if path.suffix == ".safetensors":
        return read_weights(path)
    if is_torchscript(path):
        raise UserError(
            f"'{path}' is TorchScript, which is code; save its state_dict() as safetensors instead."
        )
    found = read_pickled(path)
    found = found.get("state_dict", found) if isinstance(found, dict) else {}
    state = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    if not state:
        raise UserError(f"'{path}' holds no tensors by name; a state dict is needed.")
    check_finite(state, path)
    for prefix in PREFIXES:
        inside = {
            name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
        }
        # A classifier beside the network, as training leaves it, has another prefix or none.
        if len(inside) > len(state) / 2:
            return inside
    return state


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive."""
    try:
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return False  # the reader of weights says what is broken


def fill(network: nn.Module, state: Mapping[str, Tensor], path: Path, what: str) -> None:
    """Load exactly `network`'s tensors from `state`. Raises: UserError with names that do not fit."""
    wanted = network.state_dict()
    # Older files lack the batch counters, which evaluation does not read.
    given = {name: value for name, value in wanted.items() if name.endswith("num_batches_tracked")} | dict(
        state
    )
    missing = [name for name in wanted if name not in given]
    strange = [name for name in given if name not in wanted]
    shapes = [name for name in wanted if name in given and given[name].shape != wanted[name].shape]
    for kind, names in (("lacks", missing), ("has besides", strange), ("has in another shape", shapes)):
        if names:
            some = ", ".join(names[:MAX_NAMES]) + (", ..." if len(names) > MAX_NAMES else "")
            raise UserError(f"'{path}' holds another network than {what}: it {kind} {some}.")
    network.load_state_dict({name: given[name].to(value.dtype) for name, value in wanted.items()})


def freeze(module: nn.Module, device: torch.device | str = "cpu") -> nn.Module:
    """Move to `device`, evaluation mode, no gradient to the weights (gradient to the input still flows)."""
    return module.to(device).eval().requires_grad_(False)


@lru_cache
def weight_sha256(path: Path) -> str:
    """Hex digest of a weight file, computed once a process."""
    return sha256(path)
