"""FaceNet's network: Inception-ResNet v1 (Szegedy et al. 2016, arXiv 1602.07261, figures 10-14), 512 numbers.

Layer names, widths and residual scales are those of the file that facenet-pytorch 2.6.0 loads
(`20180402-114759-vggface2.pt`). Axes: N chips, C channels, H W grid, S = 160 pixels, D = 512.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fdlab.measure.conv_norm import ConvNorm, Kernel

CHIP_SIZE = 160
DIM = 512

Layer = tuple[int, Kernel]


def _chain(inputs: int, layers: list[Layer], halves: bool = False) -> nn.Module:
    """Layers (width, kernel) one after another; `halves` gives the last stride two and no padding."""
    made = []
    for place, (width, kernel) in enumerate(layers):
        last = halves and place == len(layers) - 1
        made.append(ConvNorm(inputs, width, kernel, 2 if last else 1, same=not last))
        inputs = width
    # The checkpoint does not number the layers of a branch of one.
    return made[0] if len(made) == 1 else nn.Sequential(*made)


class Residual(nn.Module):
    """Branches side by side, joined by a 1x1 convolution, scaled, added to the input."""

    def __init__(self, width: int, branches: list[list[Layer]], scale: float, relu: bool = True) -> None:
        super().__init__()
        self.scale, self.relu, self.num = scale, relu, len(branches)
        for number, layers in enumerate(branches):
            self.add_module(f"branch{number}", _chain(width, layers))
        self.conv2d = nn.Conv2d(sum(layers[-1][0] for layers in branches), width, 1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        parts = [self.get_submodule(f"branch{number}")(x_NCHW) for number in range(self.num)]
        y_NCHW = self.conv2d(torch.cat(parts, 1)) * self.scale + x_NCHW
        return F.relu(y_NCHW) if self.relu else y_NCHW


class Reduction(nn.Module):
    """Branches that halve the grid, and a 3x3 maximum, side by side."""

    def __init__(self, width: int, branches: list[list[Layer]]) -> None:
        super().__init__()
        self.num = len(branches)
        for number, layers in enumerate(branches):
            self.add_module(f"branch{number}", _chain(width, layers, halves=True))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        parts = [self.get_submodule(f"branch{number}")(x_NCHW) for number in range(self.num)]
        return torch.cat([*parts, F.max_pool2d(x_NCHW, 3, 2)], 1)


def _block35() -> Residual:
    return Residual(256, [[(32, 1)], [(32, 1), (32, 3)], [(32, 1), (32, 3), (32, 3)]], 0.17)


def _block17() -> Residual:
    return Residual(896, [[(128, 1)], [(128, 1), (128, (1, 7)), (128, (7, 1))]], 0.10)


def _block8(scale: float = 0.20, relu: bool = True) -> Residual:
    return Residual(1792, [[(192, 1)], [(192, 1), (192, (1, 3)), (192, (3, 1))]], scale, relu)


class InceptionResnetV1(nn.Module):
    """(N, 3, 160, 160) float RGB in 0..255 to (N, 512), not normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2d_1a, self.conv2d_2a = ConvNorm(3, 32, 3, 2, same=False), ConvNorm(32, 32, 3, same=False)
        self.conv2d_2b, self.conv2d_3b = ConvNorm(32, 64, 3), ConvNorm(64, 80, 1)
        self.conv2d_4a = ConvNorm(80, 192, 3, same=False)
        self.conv2d_4b = ConvNorm(192, 256, 3, 2, same=False)
        self.repeat_1 = nn.Sequential(*(_block35() for _ in range(5)))
        self.mixed_6a = Reduction(256, [[(384, 3)], [(192, 1), (192, 3), (256, 3)]])
        self.repeat_2 = nn.Sequential(*(_block17() for _ in range(10)))
        self.mixed_7a = Reduction(
            896, [[(256, 1), (384, 3)], [(256, 1), (256, 3)], [(256, 1), (256, 3), (256, 3)]]
        )
        self.repeat_3 = nn.Sequential(*(_block8() for _ in range(5)))
        self.block8 = _block8(1.0, relu=False)
        self.last_linear = nn.Linear(1792, DIM, bias=False)
        self.last_bn = nn.BatchNorm1d(DIM, eps=1e-3)

    def forward(self, chip_N3SS: Tensor) -> Tensor:
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a((chip_N3SS - 127.5) / 128)))
        x = self.conv2d_4b(self.conv2d_4a(self.conv2d_3b(F.max_pool2d(x, 3, 2))))
        x = self.mixed_7a(self.repeat_2(self.mixed_6a(self.repeat_1(x))))
        x = self.block8(self.repeat_3(x))
        return self.last_bn(self.last_linear(x.mean((2, 3))))
