"""dlib's face recogniser: the 29-layer residual network that maps a 150-pixel chip to 128 numbers.

Architecture: dlib's `dnn_face_recognition_ex` (ResNet-34 of He et al. 2015, fewer layers, half the filters).
Axes: N chips, S = 150 pixels, 3 RGB.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WEIGHTS = "dlib_resnet.safetensors"
CHIP_SIZE = 150
DIM = 128
MEAN_RGB = (122.782, 117.001, 104.298)
BLOCKS = (
    ("conv32_1", 32, False), ("conv32_2", 32, False), ("conv32_3", 32, False),
    ("conv64_down", 64, True), ("conv64_1", 64, False), ("conv64_2", 64, False), ("conv64_3", 64, False),
    ("conv128_down", 128, True), ("conv128_1", 128, False), ("conv128_2", 128, False),
    ("conv256_down", 256, True), ("conv256_1", 256, False), ("conv256_2", 256, False),
    ("conv256_down_out", 256, True),
)  # fmt: skip


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut; `down` halves the grid and pools the shortcut."""

    def __init__(self, inputs: int, outputs: int, down: bool) -> None:
        super().__init__()
        self.down = down
        # dlib pads a convolution only where its stride is one.
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=2 if down else 1, padding=0 if down else 1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return relu(f(x) + shortcut(x)), both zero-padded at the far ends to the larger of the shapes."""
        y_NCHW = self.conv2(F.relu(self.conv1(x_NCHW)))
        if not self.down:
            return F.relu(y_NCHW + x_NCHW)
        x_NCHW = F.avg_pool2d(x_NCHW, 2)
        shape = [max(a, b) for a, b in zip(x_NCHW.shape[1:], y_NCHW.shape[1:], strict=True)]
        return F.relu(_padded(x_NCHW, shape) + _padded(y_NCHW, shape))


def _padded(x_NCHW: Tensor, shape: list[int]) -> Tensor:
    channels, height, width = (want - have for want, have in zip(shape, x_NCHW.shape[1:], strict=True))
    return F.pad(x_NCHW, (0, width, 0, height, 0, channels))


class DlibResNet(nn.Module):
    """(N, 3, 150, 150) float RGB in 0..255 to (N, 128), on dlib's scale (distance 0.6 parts two people)."""

    mean_3: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean_3", torch.tensor(MEAN_RGB), persistent=False)
        self.conv32_down = nn.Conv2d(3, 32, 7, stride=2)
        width = 32
        for name, outputs, down in BLOCKS:
            self.add_module(name, Residual(width, outputs, down))
            width = outputs
        self.fc = nn.Linear(width, DIM, bias=False)

    def forward(self, chip_N3SS: Tensor) -> Tensor:
        x = (chip_N3SS - self.mean_3[:, None, None]) / 256
        x = F.max_pool2d(F.relu(self.conv32_down(x)), 3, 2)
        for name, _, _ in BLOCKS:
            x = self.get_submodule(name)(x)
        return self.fc(x.mean((2, 3)))


def dequantised(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn the shipped file into the network's state dict.

    A tensor `x` stored as uint8 comes with `x.range` = (scale, minimum) and means x * scale + minimum. Each
    convolution is followed by a per-channel gain and offset, which are folded into it here.
    """
    plain = {}
    for name, value in stored.items():
        if name.endswith(".range"):
            continue
        if value.dtype == torch.uint8:
            scale, minimum = stored[f"{name}.range"]
            value = value.double() * scale + minimum
        plain[name] = value.double()
    state = {"fc.weight": plain.pop("fc.weight").float()}
    for layer in sorted({name.rsplit(".", 1)[0] for name in plain}):
        gain = plain[f"{layer}.gain"]
        state[f"{layer}.weight"] = (plain[f"{layer}.weight"] * gain[:, None, None, None]).float()
        state[f"{layer}.bias"] = (plain[f"{layer}.bias"] * gain + plain[f"{layer}.offset"]).float()
    return state
