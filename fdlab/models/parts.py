"""Parts of a backbone on disk: which classes may be made, how one part is read and written.

The layout is diffusers': a folder a part, with config.json and safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fdlab.assets import hub
from fdlab.errors import UserError, unknown
from fdlab.files import write_json
from fdlab.models.tokenizer import load_tokenizer
from fdlab.weights import formats
from fdlab.weights.files import DIFFUSERS, TRANSFORMERS, fill, fitting, hold, read_part, write_weights
from fdlab.weights.tensor_names import TEXT_LEVEL

NETWORKS = ("vae", "text_encoder", "text_encoder_2", "image_encoder", "unet", "fusion")
PARTS = (*NETWORKS, "tokenizer", "tokenizer_2", "scheduler")
SECOND = {"text_encoder": "text_encoder_2", "tokenizer": "tokenizer_2"}
"""Parts that come with a second of their kind in Stable Diffusion XL and 3."""
ROLES = {second: first for first, second in SECOND.items()}
"""Parts that are made as another."""

CLASSES: dict[str, tuple[str, str]] = {
    "AutoencoderKL": ("vae", "diffusers"),
    "NanoAutoencoder": ("vae", "fdlab.models.autoencoder"),
    "CLIPTextModel": ("text_encoder", "transformers"),
    "CLIPTextModelWithProjection": ("text_encoder", "transformers"),
    "CLIPVisionModelWithProjection": ("image_encoder", "transformers"),
    "UNet2DConditionModel": ("unet", "diffusers"),
    "SD3Transformer2DModel": ("unet", "diffusers"),
    "SubjectFusion": ("fusion", "fdlab.models.fusion"),
    "CLIPTokenizer": ("tokenizer", "transformers"),
}
"""What a folder may ask for: class -> (part, module). Nothing else is ever imported on a checkpoint's
word."""

_ALIASES = {"CLIPModel": "CLIPVisionModelWithProjection", "CLIPTokenizerFast": "CLIPTokenizer"}
"""A whole CLIP model on disk serves as an image encoder: its vision tower is taken."""


TRANSFORMER = "transformer"
"""How a folder calls the denoiser of Stable Diffusion 3."""


def folder_of(root: Path, part: str) -> Path:
    """Where a part lies in a model's folder, or would lie."""
    other = root / TRANSFORMER
    return other if part == "unet" and other.is_dir() else root / part


def folder_name(part: str, value: Any) -> str:
    """How a folder calls a part."""
    return TRANSFORMER if type(value).__name__ == "SD3Transformer2DModel" else part


class _SkipInit(TorchFunctionMode):
    """Leave new tensors as they are: they are about to be overwritten, and a big UNet's initialisation takes
    seconds."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return (kwargs or {}).get("tensor", args[0] if args else None)
        return func(*args, **(kwargs or {}))


def class_of(part: str, folder: Path, index: Mapping[str, Any]) -> str:
    """Name of the class of a part, from its own config.json, or else from model_index.json.

    Raises: UserError when it is not one that fdlab makes, or serves as another part.
    """
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise UserError(
            f"'{folder}' has no config.json, so that nobody knows what its weights are; copy the folder again"
            f"{hub.how_to_complete(folder)}."
        )
    config, listed = formats.read_config(part, folder), index.get(part)
    own = config.get("_class_name") or next(iter(config.get("architectures") or []), None)
    name = own or (listed[1] if listed else None)
    if name is None:
        raise UserError(f"'{folder}' holds no {part}: it has no config.json that names a class.")
    name = _ALIASES.get(str(name), str(name))
    allowed = [known for known, (role, _) in CLASSES.items() if role == ROLES.get(part, part)]
    if name not in allowed:
        raise unknown(f"class for the {part} in '{folder}'", name, allowed)
    return name


def make_network(name: str, config: Mapping[str, Any], folder: Path | None = None) -> nn.Module:
    """Build a network of an allowed class from its config; weights as the class initialises them.

    `folder` is where the config lies, which a transformers class reads itself.
    """
    cls = getattr(import_module(CLASSES[name][1]), name)
    if CLASSES[name][1] == "transformers":
        settings = cls.config_class.from_pretrained(folder) if folder else cls.config_class(**config)
        return cls(settings)
    return cls.from_config(dict(config))


def check_network(
    part: str,
    folder: Path,
    index: Mapping[str, Any],
    state: Mapping[str, Tensor] | None = None,
    wrong: str | None = None,
) -> tuple[str, Mapping[str, Tensor]]:
    """Compare a network's config with its tensors, without building it; returns its class and the tensors.

    So a config of any width costs no memory before the tensors show that they are as wide. `wrong`: as of
    `weights.files.fitting`. Raises: UserError.
    """
    name, state = class_of(part, folder, index), read_part(folder, part) if state is None else state
    config = folder / "config.json"
    own = _expected(name, part, folder, config.read_bytes() if config.exists() else b"")
    fitting(own, state, folder, wrong)
    return name, state


@lru_cache(maxsize=32)
def _expected(name: str, part: str, folder: Path, config: bytes) -> Mapping[str, Tensor]:
    """The tensors a config asks for, on the meta device; kept, since a run loads a model several times."""
    with torch.device("meta"):
        return _made(name, part, folder).state_dict()


def load_network(
    part: str,
    folder: Path,
    index: Mapping[str, Any],
    state: Mapping[str, Tensor] | None = None,
    to_write: bool = False,
    wrong: str | None = None,
) -> nn.Module:
    """Read one network: fp32 on the CPU, in evaluation mode, frozen; `state` in place of the weights that lie
    there (`wrong`: as of `check_network`).

    to_write: its tensors stay in their file and precision, which nothing should compute with.

    Raises: UserError (see `weights.files`).
    """
    name, state = check_network(part, folder, index, state, wrong)
    with torch.device("meta") if to_write else nullcontext():
        module = _made(name, part, folder)
    (hold if to_write else fill)(module, state, folder)
    return module.eval().requires_grad_(False)


def _made(name: str, part: str, folder: Path) -> nn.Module:
    config = formats.read_config(part, folder)
    # What is not a parameter may still draw from the global stream; a load must not shift it.
    with torch.random.fork_rng(devices=[]), _SkipInit():
        try:
            return make_network(name, config, folder)
        except Exception as error:
            # Whatever a class of somebody else's raises on a foreign config, the config is to blame.
            raise UserError(
                f"'{folder / 'config.json'}' does not make a {name}: {formats.one_line(error)}."
            ) from error


def load_part(part: str, folder: Path | str, index: Mapping[str, Any] | None = None) -> Any:
    """Read one part from its own folder: a network, a tokenizer, or the scheduler's config as a dict.

    Raises: UserError for an unknown part, a class that is not allowed, missing, pickled or corrupt weights.
    """
    if part not in PARTS:
        raise unknown("part of a backbone", part, PARTS)
    folder = Path(folder)
    if part == "scheduler":
        return formats.read(folder / "scheduler_config.json", formats.SCHEDULER)
    if ROLES.get(part, part) == "tokenizer":
        return load_tokenizer(folder)
    return load_network(part, folder, index or {})


def save_part(folder: Path | str, part: str, value: Any, half: bool = False) -> None:
    """Write one part into its own folder, as diffusers and transformers do; `half` stores weights as fp16."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if part == "scheduler":
        write_json(folder / "scheduler_config.json", dict(value))
    elif ROLES.get(part, part) == "tokenizer":
        value.save_pretrained(folder)
    elif CLASSES[type(value).__name__][1] == "transformers":
        config = json.loads(value.config.to_json_string(use_diff=False))
        state = value.state_dict()
        dtype = "float16" if half else str(next(iter(state.values())).dtype).removeprefix("torch.")
        config |= {"architectures": [type(value).__name__], "dtype": dtype}
        write_json(folder / "config.json", config)
        if ROLES.get(part, part) == "text_encoder":
            # As Stable Diffusion's folders have it, which every version reads.
            own = (TEXT_LEVEL, "text_projection.")
            state = {name if name.startswith(own) else TEXT_LEVEL + name: t for name, t in state.items()}
        write_weights(folder / f"{TRANSFORMERS}.safetensors", state, half)
    else:
        value.save_config(folder)
        write_weights(folder / f"{DIFFUSERS}.safetensors", value.state_dict(), half)


def index_entry(part: str, value: Any) -> list[str]:
    """[library, class] of a part for model_index.json."""
    if part == "scheduler":
        return ["diffusers", str(value.get("_class_name", "DDIMScheduler"))]
    if ROLES.get(part, part) == "tokenizer":
        return ["transformers", "CLIPTokenizer"]
    return [CLASSES[type(value).__name__][1], type(value).__name__]
