"""Stable Diffusion in one file of the original (LDM) layout: what kind it is, before its weights are read.

Axes in shapes are those of the tensors on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError, safe_open
from torch import Tensor

from fdlab.errors import UserError
from fdlab.models.family import OTHER_INPUTS
from fdlab.weights.files import plain_state, read_pickled
from fdlab.weights.unreadable import not_there, unreadable

UNET, VAE, OPENCLIP = "model.diffusion_model.", "first_stage_model.", ".model."
"""How the tensors of denoiser and autoencoder begin; how a prefix of OpenCLIP's names ends."""
Kind = Literal["sd1", "sd2", "sdxl", "sd3"]
TEXTS: Mapping[Kind, Mapping[str, str]] = {
    "sd1": {"text_encoder": "cond_stage_model.transformer."},
    "sd2": {"text_encoder": "cond_stage_model.model."},
    "sdxl": {
        "text_encoder": "conditioner.embedders.0.transformer.",
        "text_encoder_2": "conditioner.embedders.1.model.",
    },
    "sd3": {
        "text_encoder": "text_encoders.clip_l.transformer.",
        "text_encoder_2": "text_encoders.clip_g.transformer.",
    },
}
"""How the text encoders' tensors begin: CLIP as transformers names it, or OpenCLIP."""
THIRD = "text_encoders.t5xxl."
"""How the tensors of Stable Diffusion 3's T5 begin, which is left out."""
FIRST = f"{UNET}input_blocks.0.0.weight"
FIRST_BLOCK = f"{UNET}joint_blocks.0."
"""How Stable Diffusion 3's transformer is known."""
RELEASED = "unet."
"""How the denoiser's tensors begin in the flat files of Face-diffuser and FastComposer."""
WRAPPED = "module."
"""How all names begin where a module was saved in the wrapper of data-parallel training."""
SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
NAMES: Mapping[Kind, str] = {
    "sd1": "Stable Diffusion 1", "sd2": "Stable Diffusion 2",
    "sdxl": "Stable Diffusion XL", "sd3": "Stable Diffusion 3",
}  # fmt: skip

_FOREIGN: tuple[tuple[tuple[str, ...], str], ...] = (
    (("double_blocks.", "single_blocks."), "Flux"),
    (("conditioner.embedders.0.model.",), "Stable Diffusion XL's refiner (take its base)"),
    (("edm_mean",), "Playground 2.5 (noise levels of another kind)"),
    (
        ("control_model.", "input_hint_block.", "controlnet_", "control_add_embedding."),
        "a ControlNet (take the Stable Diffusion that it goes with)",
    ),
    (("motion_modules.",), "AnimateDiff's motion modules"),
)
"""Parts of names -> whose they are; the first that is found counts."""
_ALONE: tuple[tuple[tuple[str, ...], str], ...] = (
    (("lora_", ".lora.", "hada_", "lokr_"), "a LoRA; give it as backbone.loras=[{path: FILE, weight: 1.0}]"),
    (
        (RELEASED,),
        "a released checkpoint; see `python -m fdlab checkpoint import --help`",
    ),
    (
        ("down_blocks.", "transformer_blocks."),
        "one part in diffusers' layout; give the folder that holds all parts",
    ),
    (
        ("encoder.conv_in.", "decoder.conv_in."),
        "an autoencoder alone; give a file that has all parts, and of an autoencoder's folder backbone.vae=",
    ),
    (("joint_blocks.",), "Stable Diffusion 3's transformer alone; give a file that has all parts"),
    (
        ("text_model.", "vision_model.", "resblocks."),
        "a text or image encoder alone; give a file that has all parts",
    ),
    (("emb_params", "string_to_param"), "an embedding of textual inversion"),
)


@dataclass(frozen=True)
class SingleFile:
    """A file's tensors: their shapes at once, their values when they are asked for."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[Iterable[str]], dict[str, Tensor]]
    """Values of some tensors by name."""

    def below(self, prefix: str) -> list[str]:
        """Names that begin so."""
        return [name for name in self.shapes if name.startswith(prefix)]


def look_into(path: Path) -> SingleFile:
    """Read a file's names and shapes. Raises: UserError where it is missing, damaged, or holds more than
    tensors."""
    if path.suffix != ".safetensors":
        loaded = read_pickled(path)
        if isinstance(loaded, dict) and {"format", "kind", "step"} <= loaded.keys():
            raise UserError(
                f"'{path}' is a checkpoint of a run of fdlab; give the run's folder as init=, tdm= or sdm=."
            )
        state = plain_state(loaded, path)
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        return SingleFile(path, shapes, lambda names: {name: state[name] for name in names})
    try:
        with safe_open(path, "pt") as opened:
            shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise not_there(path) from None
    except (SafetensorError, OSError, ValueError) as error:
        raise unreadable(path, error) from error

    def read(names: Iterable[str]) -> dict[str, Tensor]:
        try:
            with safe_open(path, "pt") as opened:
                return {name: opened.get_tensor(name) for name in names}
        except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
            raise unreadable(path, error) from error

    return SingleFile(path, shapes, read)


def is_original(file: SingleFile) -> bool:
    """Whether the file is in the original layout, of whatever kind."""
    return any(name.startswith((UNET, "conditioner.", VAE)) for name in file.shapes)


def is_lora(file: SingleFile) -> bool:
    """Whether the file holds a LoRA's matrices."""
    return any("lora_" in name or ".lora." in name for name in file.shapes)


def is_released(file: SingleFile) -> bool:
    """Whether the file may be a flat one of Face-diffuser or FastComposer."""
    names = file.below(RELEASED) or file.below(WRAPPED + RELEASED)
    return bool(names) and not any("lora" in name for name in names)


def prefixes(kind: Kind) -> dict[str, str]:
    """Part -> how its tensors' names begin."""
    return {"unet": UNET, "vae": VAE, **TEXTS[kind]}


def kind_of(file: SingleFile) -> Kind:
    """Which Stable Diffusion a file holds. Raises: UserError that names what it holds instead."""
    names = file.shapes
    if FIRST in names:
        inputs = names[FIRST][1] if len(names[FIRST]) == 4 else 0
        if inputs != 4:
            what = OTHER_INPUTS.get(inputs, f"a denoiser of {inputs} input channels")
            raise _unsupported(file, what)
    for parts, what in _FOREIGN:
        if any(part in name for part in parts for name in names):
            raise _unsupported(file, what)
    is_transformer = bool(file.below(FIRST_BLOCK))
    if FIRST not in names and not is_transformer:
        for parts, what in _ALONE:
            if any(part in name for part in parts for name in names):
                raise UserError(f"'{file.path}' is {what}.")
        raise UserError(
            f"'{file.path}' holds no Stable Diffusion in the original layout: no tensor '{FIRST}'."
        )
    lacking: list[str] = []
    for kind, texts in TEXTS.items():
        missing = [prefix for prefix in texts.values() if not file.below(prefix)]
        if not missing and (kind == "sd3") == is_transformer:
            return kind
        lacking += missing if (kind == "sd3") == is_transformer and len(missing) < len(texts) else []
    what = f"lacks a text encoder ({lacking[0]}...)" if lacking else "holds no text encoder"
    which = ", as sd3_medium_incl_clips" if is_transformer else ""
    raise UserError(f"'{file.path}' {what}; take a file that has all parts{which}.")


def _unsupported(file: SingleFile, what: str) -> UserError:
    return UserError(
        f"'{file.path}' is {what}, which fdlab does not support; supported: Stable Diffusion 1.x, 2.x, XL and"
        " 3 that draw from text."
    )
