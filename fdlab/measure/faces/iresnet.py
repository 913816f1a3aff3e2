"""The improved residual network that ArcFace and AdaFace use: 112-pixel chips to 512 numbers.

Deng et al. 2019 (arXiv 1801.07698) and Kim et al. 2022 (arXiv 2204.00964); of any depth (18, 34, 50, 100),
read from the weights. Two layouts are known: insightface's `arcface_torch` (`layer1.0.bn1...`) and AdaFace's
`net.py` (`body.0.res_layer.0...`). Axes: N chips, C channels, H W grid, S = 112 pixels, D = 512.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from fdlab.errors import UserError
from fdlab.measure.weights import fill

CHIP_SIZE = 112
GRID = 7
STEM = 64
ADAFACE = {
    "input_layer.": "stem.", "output_layer.0.": "norm.", "output_layer.3.": "linear.",
    "output_layer.4.": "scale.",
}  # fmt: skip
INSIGHTFACE = {
    "conv1.": "stem.0.", "bn1.": "stem.1.", "prelu.": "stem.2.", "bn2.": "norm.", "fc.": "linear.",
    "features.": "scale.",
}  # fmt: skip
INSIGHTFACE_BLOCK = {
    "bn1": "residual.0", "conv1": "residual.1", "bn2": "residual.2", "prelu": "residual.3",
    "conv2": "residual.4", "bn3": "residual.5", "downsample.0": "shortcut.0", "downsample.1": "shortcut.1",
}  # fmt: skip


class Thinned(nn.Module):
    """Every `stride`-th cell of the grid."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return x_NCHW[:, :, :: self.stride, :: self.stride]


class Block(nn.Module):
    """Batch norm before and after two 3x3 convolutions, beside a shortcut with weights or without."""

    def __init__(self, inputs: int, outputs: int, stride: int, projected: bool) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = Thinned(stride)
        if projected:
            convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(outputs))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return self.residual(x_NCHW) + self.shortcut(x_NCHW)


class IResNet(nn.Module):
    """(N, 3, 112, 112), channels and values as the weights were trained on, to (N, D), not normalised.

    blocks: for each its width and whether its shortcut has weights; the first of a stage halves the grid.
    """

    def __init__(self, blocks: list[tuple[int, bool]], dim: int, affine: bool, per_stage: list[bool]) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, STEM, 3, 1, 1, bias=False), nn.BatchNorm2d(STEM), nn.PReLU(STEM)
        )
        made, width = [], STEM
        for (outputs, projected), first in zip(blocks, per_stage, strict=True):
            made.append(Block(width, outputs, 2 if first else 1, projected))
            width = outputs
        self.body = nn.Sequential(*made)
        self.norm = nn.BatchNorm2d(width)
        self.linear = nn.Linear(width * GRID**2, dim)
        self.scale = nn.BatchNorm1d(dim, affine=affine)

    def forward(self, chip_N3SS: Tensor) -> Tensor:
        return self.scale(self.linear(self.norm(self.body(self.stem(chip_N3SS))).flatten(1)))


def build(state: Mapping[str, Tensor], path: Path) -> IResNet:
    """The network that a state dict of either layout is of, filled with it. Raises: UserError."""
    named = renamed(state)
    blocks: list[tuple[int, bool]] = []
    while (weight := named.get(f"body.{len(blocks)}.residual.4.weight")) is not None:
        blocks.append((len(weight), f"body.{len(blocks)}.shortcut.0.weight" in named))
    linear = named.get("linear.weight")
    if not blocks or linear is None or linear.ndim != 2:
        raise UserError(
            f"'{path}' holds another network than an iresnet of insightface's or AdaFace's layout; "
            "export other networks as ONNX."
        )
    widths = [STEM // 2, *(width for width, _ in blocks)]
    first = [now != before for before, now in pairwise(widths)]
    with torch.device("meta"):
        network = IResNet(blocks, len(linear), "scale.weight" in named, first)
    network = network.to_empty(device="cpu")
    fill(network, named, path, f"an iresnet of {len(blocks)} blocks")
    return network


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Either layout in the names of `IResNet`; names that neither knows stay as they are."""
    if any(name.startswith("body.") for name in state):
        plain = {re.sub(r"^(body\.\d+)\.res_layer\.", r"\1.residual.", name): x for name, x in state.items()}
        plain = {
            re.sub(r"^(body\.\d+)\.shortcut_layer\.", r"\1.shortcut.", name): x for name, x in plain.items()
        }
        return {_moved(name, ADAFACE): value for name, value in plain.items()}
    pattern = re.compile(r"layer(\d+)\.(\d+)\.(.+)\.(\w+)$")
    places = sorted({(int(m[1]), int(m[2])) for name in state if (m := pattern.match(name))})
    number = {place: k for k, place in enumerate(places)}
    out = {}
    for name, value in state.items():
        if m := pattern.match(name):
            inner = INSIGHTFACE_BLOCK.get(m[3], m[3])
            out[f"body.{number[int(m[1]), int(m[2])]}.{inner}.{m[4]}"] = value
        else:
            out[_moved(name, INSIGHTFACE)] = value
    return out


def _moved(name: str, prefixes: Mapping[str, str]) -> str:
    for old, new in prefixes.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
