"""The second recogniser that ships: the MobileNet of HSE-FaceRes, 1024 numbers from a 224-pixel chip.

Architecture: MobileNet v1 (Howard et al. 2017, arXiv 1704.04861); layers as in npm @vladmandic/human,
`models/faceres.json`, without its heads for age and gender. It shares neither training nor architecture with
dlib's network.
Axes: N chips, C channels, H W grid, S = 224 pixels, 3 RGB.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

WEIGHTS = "faceres.safetensors"
CHIP_SIZE = 224
DIM = 1024
MEAN_BGR = (103.939, 116.779, 123.68)
"""Subtracted from BGR pixels, as Keras' older networks were trained. The npm package hands it plain RGB,
which tells the same people apart less well: AUC 0.987 against 0.996 on 40 rendered people in all poses."""
STAGES = (
    # width, stride
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1), (512, 1),
    (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip


def _same(x_NCHW: Tensor, stride: int) -> Tensor:
    """Pad for a 3x3 window as TensorFlow's SAME does: on an even grid stride two pads the far side alone."""
    near = 1 if stride == 1 else 0
    return F.pad(x_NCHW, (near, 1, near, 1))


class Separable(nn.Module):
    """A 3x3 convolution of each channel, then a 1x1 over channels, both with a bias and ReLU6."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, groups=inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return F.relu6(self.pointwise(F.relu6(self.depthwise(_same(x_NCHW, self.stride)))))


def standardised(chip_N3SS: Tensor) -> Tensor:
    """RGB chips in 0..255 as the network was trained on: BGR, less `MEAN_BGR`."""
    return chip_N3SS.flip(1) - chip_N3SS.new_tensor(MEAN_BGR)[:, None, None]


class FaceRes(nn.Module):
    """(N, 3, 224, 224) pixels to (N, 1024), none negative."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2)
        blocks, width = [], 32
        for outputs, stride in STAGES:
            blocks.append(Separable(width, outputs, stride))
            width = outputs
        self.blocks = nn.Sequential(*blocks)

    def forward(self, chip_N3SS: Tensor) -> Tensor:
        return self.blocks(F.relu6(self.stem(_same(chip_N3SS, 2)))).mean((2, 3))


def dequantised(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn the shipped file into the network's state dict.

    Half floats, exactly as in the package, except: a tensor `x` stored as uint8 comes with `x.range`
    (2, outputs), each output channel's scale and minimum, and means x * scale + minimum. A depthwise
    convolution has a gain for each channel, which is folded into it here: half floats would not hold the
    product.
    """
    state = {}
    for name, value in stored.items():
        layer, kind = name.rsplit(".", 1)
        if kind not in ("weight", "bias"):
            continue
        value = value.float()
        if f"{name}.range" in stored:
            scale_O, minimum_O = stored[f"{name}.range"]
            value = value * scale_O[:, None, None, None] + minimum_O[:, None, None, None]
        if kind == "weight" and f"{layer}.gain" in stored:
            value = value * stored[f"{layer}.gain"].float()[:, None, None, None]
        state[name] = value
    return state
