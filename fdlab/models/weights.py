"""Weights on disk: safetensors in, safetensors out, and a clear word about everything else."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fdlab.errors import UserError
from fdlab.files import whole
from fdlab.models.tensor_names import modern

DIFFUSERS = "diffusion_pytorch_model"
TRANSFORMERS = "model"
PICKLED = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")
CONVERT = "convert it with: python -m fdlab checkpoint import"
_LFS = b"version https://git-lfs"


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
                return [
                    folder / name
                    for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))
                ]
    pickled = sorted(p for p in folder.iterdir() if p.suffix in PICKLED) if folder.is_dir() else []
    if pickled:
        raise refuse_pickle(pickled[0])
    raise UserError(
        f"the {what} in '{folder}' has no weights; expected {DIFFUSERS}.safetensors or model.safetensors."
    )


def refuse_pickle(file: Path) -> UserError:
    """Make the error for weights that are not safetensors."""
    return UserError(
        f"'{file}' is not safetensors, and pickled weights are never loaded; {CONVERT} '{file}' OUT."
    )


def read_weights(file: Path) -> dict[str, Tensor]:
    """Tensors of one safetensors file, on the CPU, as stored. Raises: UserError when missing, pickled or
    corrupt."""
    if file.suffix in PICKLED:
        raise refuse_pickle(file)
    if not file.is_file():
        raise UserError(f"weights '{file}' are missing; copy the folder again.")
    with file.open("rb") as stream:
        if stream.read(len(_LFS)) == _LFS:
            raise UserError(f"'{file}' is a git-lfs pointer, not the weights; run `git lfs pull` there.")
    try:
        return load_file(file)
    except SafetensorError as error:
        raise UserError(f"'{file}' is corrupt or cut short ({error}); copy it again.") from error


def read_pickled(file: Path) -> Any:
    """What a torch file holds, with nothing but tensors unpickled. Raises: UserError when it holds more, or
    is corrupt."""
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"'{file}' holds more than tensors, and nothing else is unpickled;"
            " save its state dict as safetensors."
        ) from error
    except (RuntimeError, EOFError, ValueError) as error:
        raise UserError(f"'{file}' is corrupt or cut short: {str(error).splitlines()[0]}") from error


def read_part(folder: Path, what: str) -> dict[str, Tensor]:
    """All tensors of a part's folder, shards joined. Raises: UserError."""
    return {
        name: tensor for file in weight_files(folder, what) for name, tensor in read_weights(file).items()
    }


def fill(module: nn.Module, state: Mapping[str, Tensor], source: Path | str) -> None:
    """Put a checkpoint's tensors, as fp32, into a module; every one must be there and fit.

    Raises: UserError for a checkpoint of another architecture: the first tensor that does not fit, and both
    shapes.
    """
    own = module.state_dict()
    given = modern(state, own.keys())
    other = f"'{source}' is a checkpoint of another architecture: tensor"
    for name, tensor in own.items():
        if name not in given:
            raise UserError(f"{other} '{name}' {tuple(tensor.shape)} is not in it.")
        if given[name].shape != tensor.shape:
            there, here = tuple(given[name].shape), tuple(tensor.shape)
            raise UserError(f"{other} '{name}' is {there} there and {here} here.")
    extra = sorted(given.keys() - own.keys())
    if extra:
        raise UserError(
            f"{other} '{extra[0]}' {tuple(given[extra[0]].shape)} has no place here ({len(extra)} such)."
        )
    # Into memory of their own: tensors of a mapped file may lie unaligned, which changes sums in their last
    # bits.
    full = {
        name: given[name].to(
            torch.float32 if given[name].is_floating_point() else given[name].dtype, copy=True
        )
        for name in own
    }
    module.load_state_dict(full, assign=True)


def write_weights(file: Path, state: Mapping[str, Tensor], half: bool = False) -> None:
    """Write tensors as safetensors, whole or not at all; `half` stores floating point as fp16.

    Raises: UserError when a value does not survive in fp16, rather than storing infinity.
    """
    ready = {}
    for name, tensor in state.items():
        stored = tensor.detach().cpu()
        if half and stored.is_floating_point():
            stored = stored.half()
            if not torch.isfinite(stored).all():
                raise UserError(
                    f"tensor '{name}' has values beyond fp16 (65504) or not finite; store it as fp32."
                )
        ready[name] = stored.contiguous()
    with whole(file) as temporary:
        save_file(ready, temporary, metadata={"format": "pt"})
        # safetensors makes files that only their owner may read; a model folder is there to be shared.
        temporary.chmod(0o644)
