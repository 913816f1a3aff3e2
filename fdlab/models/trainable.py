"""Which parameters learn: the paper's two choices by name, everything else frozen."""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import nn

from fdlab.errors import UserError, unknown
from fdlab.models import adapter
from fdlab.models.backbone import Backbone
from fdlab.models.parts import NETWORKS
from fdlab.models.text_pair import heard

TDM = "unet"
"""Text-driven model: the UNet alone."""
SDM = "unet+fusion+image_encoder_last_2"
"""Subject-augmented model: UNet, fusion and the image encoder's last two transformer blocks."""

TEXT = "text"
"""All text encoders, as far as they have a say."""
TEXT_LORA = "text_lora"
"""Their adapters."""

_LAST = re.compile(r"image_encoder_last_(\d+)")


@dataclass(frozen=True)
class Count:
    """Parameters of one part."""

    part: str
    total: int
    trained: int


def sdm_choice(image_blocks: int, denoiser: str = TDM) -> str:
    """The subject-augmented model's choice with another number of image-encoder blocks; `denoiser` may be its
    adapter alone."""
    return f"{denoiser}+fusion" + (f"+image_encoder_last_{image_blocks}" if image_blocks else "")


def select(backbone: Backbone, choice: str) -> dict[str, nn.Parameter]:
    """Let the parameters of `choice` learn and freeze all others; returns them by name, in a fixed order.

    `choice`: parts joined by "+" ("unet", "fusion", ...), and "image_encoder_last_N" for the last N
    transformer blocks (the norm and projection behind them stay frozen, as released), "unet_lora" for the
    UNet's adapter, "text" for all text encoders, as far as they have a say, and "text_lora" for their
    adapters. Names are `<part>.<name in the part>`.
    Raises: UserError for an unknown part, a part that is not there, or more blocks than there are.
    """
    for network in backbone.networks().values():
        network.requires_grad_(False)
    for item in choice.split("+"):
        for module in _modules(backbone, item.strip()):
            module.requires_grad_(True)
    return {
        f"{part}.{name}": parameter
        for part, network in backbone.networks().items()
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
    }


def _modules(backbone: Backbone, item: str) -> list[nn.Module]:
    match = _LAST.fullmatch(item)
    if item == adapter.PARAMETERS:
        return adapter.matrices(backbone.need("unet"))
    if item in (TEXT, TEXT_LORA):
        backbone.need("text_encoder")
        encoders = backbone.text_encoders.values()
        if item == TEXT_LORA:
            return [module for encoder in encoders for module in adapter.matrices(encoder)]
        return [module for encoder in encoders for module in heard(encoder, len(encoders) > 1)]
    if match is None:
        if item not in NETWORKS:
            raise unknown("part to train", item, [*NETWORKS, "image_encoder_last_2"])
        return [backbone.need(item)]
    layers = list(backbone.need("image_encoder").vision_model.encoder.layers)
    num = int(match[1])
    if num > len(layers):
        has = len(layers)
        raise UserError(f"train_image_blocks is {num}; the image encoder has {has} blocks: give 0 to {has}.")
    return layers[len(layers) - num :]


def counts(backbone: Backbone) -> list[Count]:
    """Parameters of each part, and how many of them learn."""
    return [
        Count(
            part,
            sum(p.numel() for p in network.parameters()),
            sum(p.numel() for p in network.parameters() if p.requires_grad),
        )
        for part, network in backbone.networks().items()
    ]


def table(rows: list[Count]) -> str:
    """The counts as text: part, parameters, trained, and their sums."""
    total = Count("all", sum(row.total for row in rows), sum(row.trained for row in rows))
    lines = [f"{'part':<14} {'parameters':>13} {'trained':>13}"]
    lines += [f"{row.part:<14} {row.total:>13,} {row.trained:>13,}" for row in [*rows, total]]
    return "\n".join(lines)
