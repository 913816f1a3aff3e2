"""The unit that both Inceptions are made of: FID's of 2015 and FaceNet's. Axes: N pictures, C channels, H W
grid."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

Kernel = int | tuple[int, int]


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, ReLU; padded to keep the grid unless told otherwise."""

    def __init__(self, inputs: int, outputs: int, kernel: Kernel, stride: int = 1, same: bool = True) -> None:
        super().__init__()
        high, wide = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (high // 2, wide // 2) if same else 0
        self.conv = nn.Conv2d(inputs, outputs, (high, wide), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x_NCHW)))
