"""Low-rank adaptation (LoRA): a denoiser, and text encoders, whose weights rest while small matrices beside
them learn.

Hu et al. 2021 (arXiv 2106.09685): W x + alpha / rank * B A x, with B zero at the beginning. By PEFT's layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fdlab.errors import UserError, nearest
from fdlab.models.nano import seeded
from fdlab.models.text_pair import heard
from fdlab.weights.lora_files import Update, read_lora
from fdlab.weights.tensor_names import TEXT_LEVEL

NAME = "default"
"""What PEFT calls the one adapter."""
PARAMETERS = "unet_lora"
"""How `trainable.select` calls what learns here."""
_ATTENTION = (
    "to_q", "to_k", "to_v", "to_out.0",
    "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out",
)  # fmt: skip
"""Of a picture's side, and of the text's where a transformer has one."""
TARGETS: Mapping[str, tuple[str, ...]] = {
    "attention": _ATTENTION,
    "transformer": (
        *_ATTENTION, "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2",
        "ff_context.net.0.proj", "ff_context.net.2",
    ),
    "resnet": ("conv1", "conv2", "conv_shortcut", "time_emb_proj"),
}  # fmt: skip
"""Groups of layers: the projections of attention (as most scripts), whole transformers (kohya), resnets."""
TEXT_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")
"""Layers of a text encoder that get matrices: the projections of its attention, as diffusers' scripts have
it."""


@dataclass(frozen=True)
class LoraSettings:
    """conf/model's lora_* keys; a rank of 0 means none."""

    rank: int = 0
    alpha: float | None = None
    """Strength, divided by the rank; None: the rank."""
    dropout: float = 0.0
    targets: Sequence[str] = ("attention",)
    init: str | None = None
    """A LoRA file to begin with; None: matrices that change nothing yet."""

    @property
    def scale(self) -> float:
        """What the product of the matrices is multiplied by."""
        return (self.rank if self.alpha is None else self.alpha) / self.rank


def add(unet: Any, settings: LoraSettings, seed: int) -> None:
    """Put matrices beside the layers that learn: new ones, from the seed, or those of a file.

    Raises: UserError where PEFT is missing, for a target that names no layer, and a file that does not fit.
    """
    _add(unet, targeted(unet, settings.targets), settings, seed, "lora")
    if settings.init is not None:
        _start_from(unet, read_lora(settings.init, {"unet": unet}).get("unet", {}), settings.init)


def add_to_text(encoders: Mapping[str, Any], settings: LoraSettings, seed: int) -> None:
    """The same for text encoders, by part, as far as they have a say; a file that has none for a text encoder
    leaves its matrices new."""
    for part, encoder in encoders.items():
        said = {id(layer) for module in heard(encoder, len(encoders) > 1) for layer in module.modules()}
        layers = [name for name, layer in encoder.named_modules() if id(layer) in said]
        names = [name for name in layers if name.endswith(tuple(f".{end}" for end in TEXT_TARGETS))]
        _add(encoder, names, settings, seed, f"lora of {part}")
        given = read_lora(settings.init, {part: encoder}).get(part) if settings.init is not None else None
        if given:
            _start_from(encoder, given, str(settings.init))


def check_rests(encoders: Mapping[str, Any], settings: LoraSettings) -> None:
    """Refuse a file with matrices for text encoders that rest: they would be lost. Raises: UserError."""
    if settings.init is not None and read_lora(settings.init, encoders):
        raise UserError(
            f"model.lora_init={settings.init}: it has matrices for the text encoder too, which would be lost;"
            " give model.train_text_encoder=true."
        )


def _add(network: Any, names: list[str], settings: LoraSettings, seed: int, purpose: str) -> None:
    peft = _peft()
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.rank * settings.scale,
        lora_dropout=settings.dropout,
        target_modules=names,
    )
    with seeded(seed, purpose):
        peft.inject_adapter_in_model(config, network, NAME)


def _peft() -> Any:
    try:
        import peft
    except ModuleNotFoundError as error:
        raise UserError("model.lora_rank needs PEFT: pip install 'fdlab[lora]'.") from error
    return peft


def targeted(unet: nn.Module, targets: Sequence[str]) -> list[str]:
    """Full names of the layers that targets mean: a group, or the end of layers' names. Raises: UserError."""
    layers = [name for name, module in unet.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    chosen: set[str] = set()
    for target in targets:
        ends = TARGETS.get(target, (target,))
        # Groups are of blocks: what a denoiser ends with may be called as what a block ends with.
        among = [name for name in layers if "." in name or target not in TARGETS]
        found = {name for name in among for end in ends if f".{name}".endswith(f".{end}")}
        if not found:
            guess = nearest(target, [*TARGETS, *{name.rpartition(".")[2] for name in layers}])
            hint = f" Did you mean '{guess}'?" if guess else ""
            raise UserError(
                f"model.lora_targets={target}: no layer's name ends so; allowed: {', '.join(TARGETS)}, or an"
                f" end, as to_k.{hint}"
            )
        chosen |= found
    if not chosen:
        raise UserError("model.lora_targets=[]: name what learns, as attention.")
    return [name for name in layers if name in chosen]


def layers(unet: nn.Module) -> dict[str, Any]:
    """PEFT's layers by the names that their weights have without them."""
    return {
        name: module
        for name, module in unet.named_modules()
        if hasattr(module, "lora_A") and NAME in module.lora_A
    }


def matrices(unet: nn.Module) -> list[nn.Module]:
    """The modules that learn."""
    return [side[NAME] for layer in layers(unet).values() for side in (layer.lora_A, layer.lora_B)]


def train_dropout(unet: nn.Module, mode: bool) -> None:
    """Put the adapter's dropout into training mode, or out of it: it has no parameters that would tell."""
    for layer in layers(unet).values():
        layer.lora_dropout.train(mode)


def updates(unet: nn.Module) -> dict[str, Update]:
    """What the adapter adds to which layer's weight, as it is now."""
    return {
        name.removeprefix(TEXT_LEVEL): Update(
            layer.lora_A[NAME].weight.detach(),
            layer.lora_B[NAME].weight.detach(),
            float(layer.lora_alpha[NAME]),
        )
        for name, layer in layers(unet).items()
    }


@torch.no_grad()
def _start_from(unet: nn.Module, given: Mapping[str, Update], source: str) -> None:
    """Give the adapter the matrices of a file, whose strength may be another.

    Raises: UserError where they are not of its layers and rank.
    """
    own = {name.removeprefix(TEXT_LEVEL): layer for name, layer in layers(unet).items()}
    for name in sorted(given.keys() ^ own.keys()):
        where = "the file" if name in given else "model.lora_targets"
        raise UserError(
            f"model.lora_init={source}: only {where} has '{name}'; choose model.lora_targets as it has."
        )
    for name, layer in own.items():
        update, down, up = given[name], layer.lora_A[NAME].weight, layer.lora_B[NAME].weight
        if update.rank != down.shape[0]:
            raise UserError(
                f"model.lora_init={source}: it has rank {update.rank}; give model.lora_rank={update.rank}."
            )
        down.copy_(update.down.reshape(down.shape))
        up.copy_(update.up.reshape(up.shape) * (update.scale / layer.scaling[NAME]))


@torch.no_grad()
def merged(unet: Any) -> Any:
    """A network of its own with the adapter in its weights; what no adapter touches is shared."""
    own, state = layers(unet), dict[str, Tensor]()
    for name, tensor in unet.state_dict().items():
        before, _, end = name.rpartition(".")
        place = before.removesuffix(".base_layer")
        if ".lora_" in name:
            continue
        changed = place in own and end == "weight"
        state[f"{place}.{end}"] = tensor + own[place].get_delta_weight(NAME) if changed else tensor
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        is_text = not hasattr(unet, "from_config")
        plain = type(unet)(unet.config) if is_text else type(unet).from_config(dict(unet.config))
    plain.load_state_dict(state, assign=True)
    for name, buffer in unet.named_buffers():
        if name not in state:
            # As the numbers of positions, which no state holds.
            place, _, end = name.rpartition(".")
            plain.get_submodule(place).register_buffer(end, buffer, persistent=False)
    return plain.eval().requires_grad_(False)
