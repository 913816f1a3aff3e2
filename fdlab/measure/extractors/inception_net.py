"""The Inception of 2015 that defines FID: Szegedy et al. 2015 (arXiv 1512.00567) as TensorFlow released it.

It differs from today's Inception v3 in its poolings: averages leave the padding out, and the last block takes
a maximum. Layer names are torchvision's, which `pt_inception-2015-12-05-6726825d.pth` uses.
Axes: B pictures, C channels, H W grid.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fdlab.measure.conv_norm import ConvNorm, Kernel


def average(x_BCHW: Tensor) -> Tensor:
    """3x3 average that leaves the padding out."""
    return F.avg_pool2d(x_BCHW, 3, 1, 1, count_include_pad=False)


def maximum(x_BCHW: Tensor) -> Tensor:
    """3x3 maximum, same grid."""
    return F.max_pool2d(x_BCHW, 3, 1, 1)


def halved(x_BCHW: Tensor) -> Tensor:
    """3x3 maximum, half the grid."""
    return F.max_pool2d(x_BCHW, 3, 2)


Layer = tuple[str, int, Kernel] | tuple[str, int, Kernel, int]


class Mixed(nn.Module):
    """Branches side by side. A branch is a chain of layers; a tuple of chains at its end forks it."""

    def __init__(
        self,
        inputs: int,
        chains: list[list[Layer]],
        forks: dict[int, list[Layer]] | None = None,
        pool: Callable[[Tensor], Tensor] = halved,
        pool_width: int | None = None,
    ) -> None:
        super().__init__()
        self.chains, self.forks, self.pool = chains, forks or {}, pool
        self.outputs = pool_width or inputs
        for position, chain in enumerate(chains):
            width = inputs
            for layer in chain:
                width = self._add(width, layer)
            ends = self.forks.get(position, [])
            self.outputs += sum(self._add(width, layer) for layer in ends) if ends else width
        if pool_width:
            self._add(inputs, ("branch_pool", pool_width, 1))
        self.has_pool_conv = pool_width is not None

    def _add(self, inputs: int, layer: Layer) -> int:
        name, outputs, kernel = layer[:3]
        stride = layer[3] if len(layer) == 4 else 1
        self.add_module(name, ConvNorm(inputs, outputs, kernel, stride, same=stride == 1))
        return outputs

    def forward(self, x_BCHW: Tensor) -> Tensor:
        parts = []
        for position, chain in enumerate(self.chains):
            y = x_BCHW
            for layer in chain:
                y = self.get_submodule(layer[0])(y)
            ends = self.forks.get(position, [])
            parts += [self.get_submodule(layer[0])(y) for layer in ends] if ends else [y]
        pooled = self.pool(x_BCHW)
        parts.append(self.get_submodule("branch_pool")(pooled) if self.has_pool_conv else pooled)
        return torch.cat(parts, 1)


def _mixed_35(inputs: int, pool_width: int) -> Mixed:
    return Mixed(inputs, [
        [("branch1x1", 64, 1)],
        [("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)],
        [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)],
    ], pool=average, pool_width=pool_width)  # fmt: skip


def _mixed_35_to_17(inputs: int) -> Mixed:
    return Mixed(inputs, [
        [("branch3x3", 384, 3, 2)],
        [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3, 2)],
    ])  # fmt: skip


def _mixed_17(inputs: int, width: int) -> Mixed:
    return Mixed(inputs, [
        [("branch1x1", 192, 1)],
        [("branch7x7_1", width, 1), ("branch7x7_2", width, (1, 7)), ("branch7x7_3", 192, (7, 1))],
        [("branch7x7dbl_1", width, 1), ("branch7x7dbl_2", width, (7, 1)), ("branch7x7dbl_3", width, (1, 7)),
         ("branch7x7dbl_4", width, (7, 1)), ("branch7x7dbl_5", 192, (1, 7))],
    ], pool=average, pool_width=192)  # fmt: skip


def _mixed_17_to_8(inputs: int) -> Mixed:
    return Mixed(inputs, [
        [("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3, 2)],
        [("branch7x7x3_1", 192, 1), ("branch7x7x3_2", 192, (1, 7)), ("branch7x7x3_3", 192, (7, 1)),
         ("branch7x7x3_4", 192, 3, 2)],
    ])  # fmt: skip


def _mixed_8(inputs: int, pool: Callable[[Tensor], Tensor]) -> Mixed:
    return Mixed(inputs, [
        [("branch1x1", 320, 1)],
        [("branch3x3_1", 384, 1)],
        [("branch3x3dbl_1", 448, 1), ("branch3x3dbl_2", 384, 3)],
    ], forks={
        1: [("branch3x3_2a", 384, (1, 3)), ("branch3x3_2b", 384, (3, 1))],
        2: [("branch3x3dbl_3a", 384, (1, 3)), ("branch3x3dbl_3b", 384, (3, 1))],
    }, pool=pool, pool_width=192)  # fmt: skip


class Inception2015(nn.Module):
    """(B, 3, 299, 299) float RGB in 0..255 to pooled features (B, 2048)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvNorm(3, 32, 3, 2, same=False)
        self.Conv2d_2a_3x3 = ConvNorm(32, 32, 3, same=False)
        self.Conv2d_2b_3x3 = ConvNorm(32, 64, 3)
        self.Conv2d_3b_1x1 = ConvNorm(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvNorm(80, 192, 3, same=False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = (
            _mixed_35(192, 32),
            _mixed_35(256, 64),
            _mixed_35(288, 64),
        )
        self.Mixed_6a = _mixed_35_to_17(288)
        self.Mixed_6b, self.Mixed_6c = _mixed_17(768, 128), _mixed_17(768, 160)
        self.Mixed_6d, self.Mixed_6e = _mixed_17(768, 160), _mixed_17(768, 192)
        self.Mixed_7a = _mixed_17_to_8(768)
        self.Mixed_7b, self.Mixed_7c = _mixed_8(1280, average), _mixed_8(2048, maximum)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3((image_B3HW - 128) / 128)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(halved(x)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(halved(x))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean((2, 3))
