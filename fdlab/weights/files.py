"""Weights on disk: safetensors in, safetensors out, and a clear word about everything else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fdlab.assets import hub
from fdlab.errors import UserError
from fdlab.files import whole
from fdlab.weights.eight_bits import unrounded
from fdlab.weights.formats import read_shards
from fdlab.weights.tensor_names import modern
from fdlab.weights.unreadable import not_there, unreadable

DIFFUSERS = "diffusion_pytorch_model"
TRANSFORMERS = "model"
PICKLED = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")
CONVERT = "convert it with: python -m fdlab checkpoint import"


def weight_files(folder: Path, what: str) -> list[Path]:
    """The safetensors files that hold a part: one, or the shards that an index lists.

    `what` names the part in errors. Raises: UserError when there are none, naming pickled weights that lie
    there.
    """
    for stem in (DIFFUSERS, TRANSFORMERS):
        for variant in ("", ".fp16"):
            file = folder / f"{stem}{variant}.safetensors"
            if file.is_file():
                return [file]
            index = folder / f"{stem}.safetensors.index{variant}.json"
            if index.is_file():
                return read_shards(index)
    pickled = sorted(p for p in folder.iterdir() if p.suffix in PICKLED) if folder.is_dir() else []
    if pickled:
        raise refuse_pickle(pickled[0])
    raise UserError(
        f"the {what} in '{folder}' has no weights; expected {DIFFUSERS}.safetensors or model.safetensors"
        f"{hub.how_to_complete(folder)}."
    )


def refuse_pickle(file: Path) -> UserError:
    """Make the error for weights that are not safetensors. Those of a part are brought in with the folder
    that holds all, and a run's state goes on as its model."""
    if file.parent.name == "checkpoints" and (file.parents[1] / "config.yaml").is_file():
        return UserError(f"'{file}' is the state of a run; give the run's folder, '{file.parents[1]}'.")
    is_part = (file.parent / "config.json").is_file() and (file.parents[1] / "model_index.json").is_file()
    return UserError(
        f"'{file}' is not safetensors, and pickled weights are never loaded; {CONVERT}"
        f" '{file.parents[1] if is_part else file}' OUT."
    )


def read_weights(file: Path) -> dict[str, Tensor]:
    """Tensors of one safetensors file, on the CPU, as stored. Raises: UserError when missing, pickled or
    corrupt."""
    if file.suffix in PICKLED:
        raise refuse_pickle(file)
    if not file.is_file():
        raise UserError(f"weights '{file}' are missing; copy the folder again.")
    try:
        state = load_file(file)
    # Types that torch does not have are a KeyError.
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise unreadable(file, error) from error
    check_finite(state, file)
    return state


class _Nothing:
    """Stands for the class by which Lightning files its callbacks' states; no code comes with it."""


_LIGHTNING: list[Any] = [
    (_Nothing, f"{package}.callbacks.model_checkpoint.ModelCheckpoint")
    for package in ("pytorch_lightning", "lightning.pytorch")
]
"""What the published files of Stable Diffusion 1 name beside their tensors."""


def read_pickled(file: Path) -> Any:
    """What a torch file holds, with nothing but tensors unpickled. Raises: UserError when it holds more, or
    is corrupt."""
    try:
        # Mapped where the format allows it: what is not asked for is not read.
        with torch.serialization.safe_globals(_LIGHTNING):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=is_zipfile(file))
    except FileNotFoundError:
        raise not_there(file) from None
    except Exception as error:
        # A damaged pickle calls what it likes with what it likes: any error may come of it.
        raise unreadable(file, error) from error


def flat_state(loaded: Any, source: Path | str) -> dict[str, Tensor]:
    """A state dict from what a torch file held: finite tensors by name. Raises: UserError for anything
    else."""
    state = plain_state(loaded, source)
    check_finite(state, source)
    return state


def plain_state(loaded: Any, source: Path | str) -> dict[str, Tensor]:
    """The same, whatever the tensors' values, which are not looked at."""
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
    plain = isinstance(state, dict) and all(
        isinstance(name, str)
        and isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        # A view may claim more values than its file has.
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
        for name, value in state.items()
    )
    if not plain:
        raise UserError(f"'{source}' is no flat state dict of tensors.")
    return dict(state)


def check_finite(state: Mapping[str, Tensor], source: Path | str) -> None:
    """Raise UserError that names the first tensor that holds infinity or NaN."""
    if bad := first_not_finite(state):
        raise UserError(
            f"'{source}': tensor '{bad}' has values that are not finite (NaN or infinity):"
            " the training behind it went wrong; take weights from before."
        )


def first_not_finite(tensors: Mapping[str, Tensor]) -> str:
    """Name of the first tensor that holds infinity or NaN; "" where there is no such."""
    return next((name for name, tensor in tensors.items() if not _is_finite(tensor)), "")


def _is_finite(tensor: Tensor) -> bool:
    if not tensor.numel() or tensor.is_meta or not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    tensor = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
    # Both ends are NaN where any value is; many times faster than a mask of all values.
    ends = torch.aminmax(tensor.float() if tensor.element_size() == 1 else tensor)
    return math.isfinite(ends.min) and math.isfinite(ends.max)


def read_part(folder: Path, what: str) -> dict[str, Tensor]:
    """All tensors of a part's folder: shards joined, eight bits undone. Raises: UserError."""
    return unrounded(read_stored(folder, what))


def read_stored(folder: Path, what: str) -> dict[str, Tensor]:
    """The same as the files have them, eight bits and their scales included. Raises: UserError."""
    return {
        name: tensor for file in weight_files(folder, what) for name, tensor in read_weights(file).items()
    }


def fitting(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], source: Path | str, wrong: str | None = None
) -> dict[str, Tensor]:
    """A checkpoint's tensors by the names of a module's `own`, which may be on the meta device; each must be
    there and fit. `wrong` says what it is that does not, where that is not a checkpoint's architecture.

    Raises: UserError for a checkpoint of another architecture: the first tensor that does not fit, and both
    shapes.
    """
    given = modern(state, own.keys())
    wrong = wrong or f"'{source}' is a checkpoint of another architecture"
    other = f"{wrong}: tensor"
    for name, tensor in own.items():
        if name not in given:
            raise UserError(f"{other} '{name}' {tuple(tensor.shape)} is not in it.")
        if given[name].shape != tensor.shape:
            there, here = tuple(given[name].shape), tuple(tensor.shape)
            raise UserError(f"{other} '{name}' is {there} there and {here} here.")
        if given[name].is_floating_point() != tensor.is_floating_point():
            raise UserError(f"{other} '{name}' holds {given[name].dtype} there and {tensor.dtype} here.")
    extra = sorted(given.keys() - own.keys())
    if extra:
        raise UserError(
            f"{other} '{extra[0]}' {tuple(given[extra[0]].shape)} has no place here ({len(extra)} such)."
        )
    return {name: given[name] for name in own}


def fill(module: nn.Module, state: Mapping[str, Tensor], source: Path | str) -> None:
    """Put a checkpoint's tensors, as fp32, into a module; every one must be there and fit. Raises: UserError
    (see `fitting`)."""
    # Into memory of their own: tensors of a mapped file may lie unaligned, which changes sums in their last
    # bits.
    full = {
        name: tensor.to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
        for name, tensor in fitting(module.state_dict(), state, source).items()
    }
    module.load_state_dict(full, assign=True)


def hold(module: nn.Module, state: Mapping[str, Tensor], source: Path | str) -> None:
    """Put a checkpoint's tensors into a module as they are: in their file, where it is mapped, and in its
    precision. For what is only written on. Raises: UserError (see `fitting`)."""
    module.load_state_dict(fitting(module.state_dict(), state, source), assign=True)


def write_weights(file: Path, state: Mapping[str, Tensor], half: bool = False) -> None:
    """Write tensors as safetensors, whole or not at all; `half` stores floating point as fp16.

    Raises: UserError for a value that is not finite, or does not survive in fp16.
    """
    ready = {}
    check_finite(state, file)
    for name, tensor in state.items():
        stored = tensor.detach().cpu()
        if half and stored.is_floating_point():
            stored = stored.half()
            if not torch.isfinite(stored).all():
                raise UserError(f"tensor '{name}' has values beyond fp16 (65504); store it as fp32.")
        ready[name] = stored.contiguous()
    with whole(file) as temporary:
        save_file(ready, temporary, metadata={"format": "pt"})
        # safetensors makes files that only their owner may read; a model folder is there to be shared.
        temporary.chmod(0o644)
