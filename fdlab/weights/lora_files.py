"""LoRA files: diffusers' names and kohya's in, both out; and what they add, merged into a network's weights.

diffusers  unet.mid_block.attentions.0.proj_in.lora_A.weight (and older: lora.down, processor.to_q_lora.down);
           of Stable Diffusion 3 transformer.transformer_blocks.0.attn.to_q.lora_A.weight
kohya      lora_unet_mid_block_attentions_0_proj_in.lora_down.weight, .lora_up.weight, .alpha; a UNet's layers
           by their original names too (lora_unet_middle_block_1_proj_in), as most of Stable Diffusion XL are
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from fdlab.errors import UserError
from fdlab.weights.files import PICKLED, flat_state, read_pickled, read_weights, write_weights
from fdlab.weights.original_names import original_names
from fdlab.weights.tensor_names import TEXT_LEVEL
from fdlab.weights.unreadable import not_there

DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
"""How diffusers calls such a file."""
PARTS = ("unet", "text_encoder", "text_encoder_2")
"""What a LoRA file may be of."""
KOHYA = {
    "lora_unet_": "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
}
"""How kohya's names begin, of which part; the first encoder is te1 where there is a second."""
_TRANSFORMER = "transformer"
"""How diffusers calls the denoiser of Stable Diffusion 3, and how its blocks' names begin."""
_THIRD = ("lora_te3_", "text_encoder_3.")
_JOINED = "joint_blocks"
"""In kohya's names of Stable Diffusion 3, whose query, key and value are one."""
_OTHERS = ("hada_", "lokr_", "lora_mid", "dora_scale", "oft_", "glora", "ia3", "lora_magnitude_vector")
"""In the names of adaptations that are no plain LoRA."""
_SIDES = {
    "lora_A": "down", "lora_B": "up", "lora_down": "down", "lora_up": "up",
    "lora.down": "down", "lora.up": "up", "lora_linear_layer.down": "down", "lora_linear_layer.up": "up",
}  # fmt: skip
_SIDE = re.compile(rf"\.({'|'.join(map(re.escape, _SIDES))})(?:\.default)?\.weight$")
_PROCESSOR = re.compile(r"\.processor\.(to_q|to_k|to_v|to_out)_lora\.(down|up)\.weight$")


@dataclass(frozen=True)
class Update:
    """What is added to one layer's weight."""

    down: Tensor
    """(rank, in), or of a convolution (rank, in, height, width)."""
    up: Tensor
    """(out, rank), or (out, rank, 1, 1)."""
    alpha: float | None = None
    """None: the rank."""

    @property
    def rank(self) -> int:
        """Rows of `down`."""
        return int(self.down.shape[0])

    @property
    def scale(self) -> float:
        """What the product is multiplied by."""
        return 1.0 if self.alpha is None else self.alpha / self.rank

    def delta(self, like: Tensor) -> Tensor:
        """The change of a weight of `like`'s shape, fp32."""
        product = self.up.float().flatten(1) @ self.down.float().flatten(1)
        return self.scale * product.reshape(like.shape)

    def fits(self, weight: Tensor) -> bool:
        """Whether it is of that weight's shape."""
        return (
            self.up.flatten(1).shape[1] == self.rank
            and self.up.shape[0] == weight.shape[0]
            and self.down[0].numel() == weight[0].numel()
        )


@dataclass(frozen=True)
class LoraChoice:
    """One of backbone.loras."""

    path: str
    weight: float = 1.0

    @classmethod
    def read(cls, value: Any) -> LoraChoice:
        """Read `{path: FILE, weight: 0.8}`, or FILE alone. Raises: UserError."""
        if isinstance(value, str):
            value = {"path": value}
        given: dict[str, Any] = {"weight": 1.0, **(value if isinstance(value, Mapping) else {})}
        path, weight = given.get("path"), given["weight"]
        if not isinstance(path, str) or type(weight) not in (int, float) or len(given) > 2:
            raise UserError(
                f"backbone.loras has {value}; as in backbone.loras=[{{path: FILE, weight: 0.8}}]."
            )
        try:
            return cls(str(lora_file(path)), float(weight))
        except UserError as error:
            raise UserError(f"backbone.loras: {error}") from None


def lora_file(given: Path | str) -> Path:
    """A LoRA file as a user gives it: itself, or the folder of a training by LoRA. Raises: UserError."""
    path = Path(given).expanduser()
    for file in (path, path / DIFFUSERS_FILE, path / "model" / DIFFUSERS_FILE):
        if file.is_file():
            return file
    if path.is_dir():
        raise UserError(f"'{given}' has no {DIFFUSERS_FILE}; give a LoRA file, or a run trained by LoRA.")
    raise not_there(given)


def read_lora(
    file: Path | str, networks: Mapping[str, nn.Module] | None = None
) -> dict[str, dict[str, Update]]:
    """Part (see PARTS) -> layer -> what a file adds to it; parts that `networks` lacks are left out.

    Without networks (None) all that the file has is taken as it is, which kohya's names do not allow.

    Raises: UserError for a file of another kind, and for a layer that the networks do not have, or in another
    shape.
    """
    file = lora_file(file)
    if file.suffix in PICKLED:
        state, strengths = flat_state(read_pickled(file), file), {}
    else:
        state, strengths = read_weights(file), _metadata(file)
    known = {part: _layers(network) for part, network in (networks or {}).items()}
    sides: dict[tuple[str, str], dict[str, Tensor]] = {}
    for name, tensor in state.items():
        part, layer, side = _parse(name, known, file)
        if networks is None and name.startswith(tuple(KOHYA)):
            raise UserError(
                f"'{file}' has kohya's names, which lack the dots; give --base FOLDER, whose they are."
            )
        if networks is None or part in networks:
            sides.setdefault((part, layer), {})[side] = tensor
    found: dict[str, dict[str, Update]] = {}
    for (part, layer), both in sides.items():
        if "down" not in both or "up" not in both:
            raise UserError(f"'{file}': layer '{layer}' of the {part} has but one of its two matrices.")
        alpha = float(both["alpha"]) if "alpha" in both else strengths.get(part)
        update = Update(both["down"], both["up"], alpha)
        weight = _weight(networks[part], known[part][_flat(layer)][1]) if networks else None
        if weight is not None and not update.fits(weight):
            shapes = f"{tuple(update.up.shape)} x {tuple(update.down.shape)}"
            raise _another(file, f"'{layer}' of the {part} is {shapes} there and {tuple(weight.shape)} here")
        found.setdefault(part, {})[layer] = update
    if not state:
        raise UserError(f"'{file}' holds no tensor.")
    return found


def _flat(layer: str) -> str:
    return layer.replace(".", "_")


Known = Mapping[str, tuple[str, str]]
"""A network's layers: the name without dots -> that in files, and that in the network, which PEFT changes."""


def _layers(network: nn.Module) -> Known:
    found = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and ".lora_" not in name:
            layer = name.removesuffix(".base_layer").removeprefix(TEXT_LEVEL)
            found[_flat(layer)] = (layer, name)
    if hasattr(config := getattr(network, "config", None), "up_block_types"):
        ended = {f"{layer}.weight": key for key, (layer, _) in found.items()}
        for name, original in original_names(ended, config).items():
            found.setdefault(_flat(original.removesuffix(".weight")), found[ended[name]])
    return found


def _weight(network: nn.Module, layer: str) -> Tensor:
    return network.get_submodule(layer).get_parameter("weight")


def _parse(name: str, known: Mapping[str, Known], file: Path) -> tuple[str, str, str]:
    """Part, layer and side (down, up, alpha) of a tensor."""
    if any(other in name for other in _OTHERS):
        raise UserError(
            f"'{file}': '{name}' is of no plain LoRA (LyCORIS, DoRA, ...): fdlab does not read it."
        )
    if name.startswith(_THIRD):
        raise _another(file, "it is for Stable Diffusion 3's T5, which fdlab does without")
    if _JOINED in name:
        raise UserError(
            f"'{file}' has Stable Diffusion 3's layers by their original names, query, key and value in one;"
            " only diffusers' names of them are read (transformer.transformer_blocks.*)."
        )
    begin = next((begin for begin in KOHYA if name.startswith(begin)), "")
    if begin:
        part, (layer, side) = KOHYA[begin], _kohya(name, begin)
    else:
        part, _, rest = name.partition(".")
        part = "unet" if part == _TRANSFORMER else part
        layer, side = _dotted(rest.removeprefix(TEXT_LEVEL))
    if part not in PARTS or not side:
        raise UserError(
            f"'{file}': '{name}' is of no LoRA; its names are as unet.*.lora_A.weight or lora_unet_*."
        )
    if part == "text_encoder_2" and "text_encoder" in known and part not in known:
        raise _another(file, "it is for two text encoders, as Stable Diffusion XL has them")
    if part in known:
        if _flat(layer) not in known[part]:
            raise _another(file, f"'{name}' is for a layer that this {part} does not have")
        layer = known[part][_flat(layer)][0]
    return part, layer, side


def _kohya(name: str, begin: str) -> tuple[str, str]:
    """Layer, without dots, and side."""
    flat, _, end = name.removeprefix(begin).partition(".")
    side = "alpha" if end == "alpha" else _SIDES.get(end.removesuffix(".weight"), "")
    return flat.removeprefix(_flat(TEXT_LEVEL)), side


def _dotted(name: str) -> tuple[str, str]:
    """Layer and side of one of diffusers' names, old and new."""
    if name.endswith(".alpha"):
        return name.removesuffix(".alpha"), "alpha"
    if match := _PROCESSOR.search(name):
        inner = "to_out.0" if match[1] == "to_out" else match[1]
        return f"{name[: match.start()]}.{inner}", match[2]
    found = _SIDE.search(name)
    return (name[: found.start()], _SIDES[found[1]]) if found else (name, "")


def _another(file: Path, why: str) -> UserError:
    return UserError(f"'{file}' is a LoRA of another architecture: {why}.")


def _metadata(file: Path) -> dict[str, float]:
    """Part -> alpha, as diffusers writes it into the header.

    Raises: UserError for what it says beside that.
    """
    with safe_open(file, "pt") as opened:
        said = (opened.metadata() or {}).get("lora_adapter_metadata")
    try:
        settings = json.loads(said) if said else {}
        settings = {re.sub(f"^{_TRANSFORMER}\\.", "unet.", key): value for key, value in settings.items()}
        alphas = {
            part: float(settings[f"{part}.lora_alpha"]) for part in PARTS if f"{part}.lora_alpha" in settings
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"'{file}': its lora_adapter_metadata is no JSON of numbers.") from error
    for part in PARTS:
        for key in ("use_rslora", "use_dora", "alpha_pattern", "rank_pattern"):
            if settings.get(f"{part}.{key}"):
                raise UserError(f"'{file}' was made with PEFT's {key}, which fdlab does not read.")
    return alphas


@torch.no_grad()
def merge(network: nn.Module, updates: Mapping[str, Update], weight: float) -> None:
    """Add updates to a network's weights, in place."""
    known = _layers(network)
    for layer, update in updates.items():
        target = _weight(network, known[_flat(layer)][1])
        target += weight * update.delta(target).to(target.dtype)


def apply(loras: tuple[LoraChoice, ...], networks: Mapping[str, nn.Module]) -> None:
    """Merge files into networks, one after the other. Raises: UserError, and then some may be merged."""
    for choice in loras if networks else ():
        for part, updates in read_lora(choice.path, networks).items():
            merge(networks[part], updates, choice.weight)


def _is_transformer(layers: Iterable[str]) -> bool:
    """Whether layers are of Stable Diffusion 3's denoiser."""
    return any(layer.startswith(f"{_TRANSFORMER}_blocks.") for layer in layers)


def _level(layer: str, part: str) -> str:
    """What stands before a layer's name in files, of a text encoder's but for its projection."""
    return TEXT_LEVEL if part.startswith("text_encoder") and layer != "text_projection" else ""


def write_diffusers(
    file: Path | str, updates: Mapping[str, Mapping[str, Update]], half: bool = False
) -> None:
    """Write part -> layer -> update as diffusers' `load_lora_weights` reads it.

    Alpha is multiplied into the second matrix, since readers differ in where they look for it.
    """
    state = {}
    for part, layers in updates.items():
        for layer, update in layers.items():
            place = f"{_TRANSFORMER if _is_transformer(layers) else part}.{_level(layer, part)}{layer}"
            state[f"{place}.lora_A.weight"] = update.down
            state[f"{place}.lora_B.weight"] = update.up * update.scale
    write_weights(Path(file), state, half)


def write_kohya(file: Path | str, updates: Mapping[str, Mapping[str, Update]], half: bool = False) -> None:
    """Write part -> layer -> update by kohya's names, as most programs that draw read it.

    Raises: UserError for Stable Diffusion 3, whose layers are others there.
    """
    begins = {part: begin for begin, part in KOHYA.items() if begin != "lora_te1_"}
    if "text_encoder_2" in updates:
        begins["text_encoder"] = "lora_te1_"
    state = {}
    for part, layers in updates.items():
        if _is_transformer(layers):
            raise UserError("LoRA of Stable Diffusion 3 has no kohya's names here; use --layout lora.")
        for layer, update in layers.items():
            flat = begins[part] + _flat(_level(layer, part) + layer)
            state[f"{flat}.lora_down.weight"] = update.down
            state[f"{flat}.lora_up.weight"] = update.up
            state[f"{flat}.alpha"] = torch.tensor(
                float(update.rank if update.alpha is None else update.alpha)
            )
    write_weights(Path(file), state, half)
