"""MediaPipe's selfie segmentation: a MobileNetV3 that sees a person, and a decoder back to pixels.

Encoder: MobileNetV3-Small (Howard et al. 2019, arXiv 1905.02244), cut before its last stage. Decoder: lite
R-ASPP (same paper, 6.4), then three steps that double the grid and take the encoder's features in, gated by
what the whole picture shows. Layers as in npm @mediapipe/selfie_segmentation, batch norms folded in.
Axes: B pictures, C channels, H W pixels, h w grid cells.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from fdlab.measure.extractors.efficientnet import SameConv

STRIDE = 16
"""Sides of the input are multiples of it."""
STEM = 16
BLOCKS = (
    # kernel, stride, expansion, width, width of the gate (0: none), hard swish (else ReLU)
    (3, 2, 16, 16, 8, False),
    (3, 2, 72, 24, 0, False),
    (3, 1, 88, 24, 0, False),
    (5, 2, 96, 32, 24, True),
    (5, 1, 128, 32, 32, True),
    (5, 1, 128, 32, 32, True),
    (5, 1, 96, 32, 24, True),
    (5, 1, 96, 32, 24, True),
)
SKIPS = (2, 0, -1)
"""After which block the encoder's features go to the decoder, coarse to fine; -1 is the stem."""
WIDTHS = (24, 16, 16)
"""Of the decoder, and of the features that it takes in, coarse to fine."""
POOLED = 128


class Gate(nn.Module):
    """One factor in 0..1 a channel, from its mean: squeeze and excitation (Hu et al., arXiv 1709.01507)."""

    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(width, squeezed, 1), nn.Conv2d(squeezed, width, 1)

    def forward(self, x_BChw: Tensor) -> Tensor:
        mean_BC11 = x_BChw.mean((2, 3), keepdim=True)
        return self.excite(F.relu(self.squeeze(mean_BC11))).sigmoid()


class Block(nn.Module):
    """Expand, convolve each channel, gate, project; with a shortcut where the shape stays."""

    def __init__(
        self, inputs: int, kernel: int, stride: int, inner: int, width: int, gate: int, swish: bool
    ) -> None:
        super().__init__()
        self.shortcut = stride == 1 and inputs == width
        self.act = F.hardswish if swish else F.relu
        self.expand = nn.Conv2d(inputs, inner, 1)
        self.depthwise = SameConv(inner, inner, kernel, stride, groups=inner)
        self.gate = Gate(inner, gate) if gate else None
        self.project = nn.Conv2d(inner, width, 1)

    def forward(self, x_BChw: Tensor) -> Tensor:
        y = self.act(self.depthwise(self.act(self.expand(x_BChw))))
        if self.gate is not None:
            y = y * self.gate(y)
        y = self.project(y)
        return x_BChw + y if self.shortcut else y


class Pooled(nn.Module):
    """Lite R-ASPP's head: the coarsest features, gated by their mean over the picture."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.feature, self.gate = nn.Conv2d(inputs, width, 1), nn.Conv2d(inputs, width, 1)

    def forward(self, x_BChw: Tensor) -> Tensor:
        return F.relu(self.feature(x_BChw)) * self.gate(x_BChw.mean((2, 3), keepdim=True)).sigmoid()


class Finer(nn.Module):
    """Double the grid and add the encoder's features, as far as both together open the gate."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.shrink, self.gate = nn.Conv2d(inputs, width, 1), Gate(width, width)
        self.mix, self.depthwise = nn.Conv2d(width, width, 1), SameConv(width, width, 3, groups=width)

    def forward(self, x_BChw: Tensor, skip_BCHW: Tensor) -> Tensor:
        up_BCHW = F.interpolate(x_BChw, skip_BCHW.shape[-2:], mode="bilinear", align_corners=False)
        up_BCHW = self.shrink(up_BCHW)
        y = F.relu(self.mix(skip_BCHW * self.gate(skip_BCHW + up_BCHW) + up_BCHW))
        return y + F.relu(self.depthwise(y))


class MattingNet(nn.Module):
    """(B, 3, H, W) RGB in 0..1 to (B, H, W), the probability that a pixel shows a person; H, W in multiples
    of `STRIDE`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(3, STEM, 3, 2)
        blocks, width = [], STEM
        for kernel, stride, inner, outputs, gate, swish in BLOCKS:
            blocks.append(Block(width, kernel, stride, inner, outputs, gate, swish))
            width = outputs
        self.blocks = nn.ModuleList(blocks)
        self.pooled = Pooled(width, POOLED)
        self.finer = nn.ModuleList(
            [Finer(inputs, outputs) for inputs, outputs in zip((POOLED, *WIDTHS), WIDTHS, strict=False)]
        )
        # The package's own operation Convolution2DTransposeBias.
        self.out = nn.ConvTranspose2d(WIDTHS[-1], 1, 2, 2)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        x = F.hardswish(self.stem(image_B3HW))
        kept = {-1: x}
        for number, block in enumerate(self.blocks):
            x = kept[number] = block(x)
        x = self.pooled(x)
        for finer, skip in zip(self.finer, SKIPS, strict=True):
            x = finer(x, kept[skip])
        return self.out(x)[:, 0].sigmoid()
