"""The three networks of MTCNN (Zhang et al. 2016, arXiv 1604.02878, figure 2).

Axes: N crops, B pictures, h w cells of the proposal grid. All take RGB scaled to (value - 127.5) / 128.
"""

from __future__ import annotations

from torch import Tensor, nn


def _conv(inputs: int, outputs: int, kernel: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, kernel), nn.PReLU(outputs)


def _pool(kernel: int) -> nn.Module:
    return nn.MaxPool2d(kernel, 2, ceil_mode=True)


class ProposalNet(nn.Module):
    """P-Net: a face classifier on 12-pixel windows, slid over the picture with stride 2."""

    WINDOW, STRIDE = 12, 2

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*_conv(3, 10, 3), _pool(2), *_conv(10, 16, 3), *_conv(16, 32, 3))
        self.score, self.box = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)

    def forward(self, image_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """Return the face probability (B, h, w) and box offsets in windows (B, 4, h, w)."""
        feature = self.trunk(image_B3HW)
        return self.score(feature).softmax(1)[:, 1], self.box(feature)


class RefineNet(nn.Module):
    """R-Net: scores a 24-pixel crop and corrects its box."""

    SIZE = 24

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            *_conv(3, 28, 3), _pool(3), *_conv(28, 48, 3), _pool(3), *_conv(48, 64, 2),
            nn.Flatten(), nn.Linear(64 * 3 * 3, 128), nn.PReLU(128),
        )  # fmt: skip
        self.score, self.box = nn.Linear(128, 2), nn.Linear(128, 4)

    def forward(self, crop_N3SS: Tensor) -> tuple[Tensor, Tensor]:
        """Return the face probability (N) and box offsets in sides of the crop (N, 4)."""
        feature = self.trunk(crop_N3SS)
        return self.score(feature).softmax(1)[:, 1], self.box(feature)


class OutputNet(nn.Module):
    """O-Net: scores a 48-pixel crop, corrects its box and places five landmarks."""

    SIZE = 48

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            *_conv(3, 32, 3), _pool(3), *_conv(32, 64, 3), _pool(3), *_conv(64, 64, 3), _pool(2),
            *_conv(64, 128, 2), nn.Flatten(), nn.Linear(128 * 3 * 3, 256), nn.PReLU(256),
        )  # fmt: skip
        self.score, self.box, self.landmark = nn.Linear(256, 2), nn.Linear(256, 4), nn.Linear(256, 10)

    def forward(self, crop_N3SS: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the face probability (N), box offsets (N, 4) and landmarks (N, 5, 2), in crop sides."""
        feature = self.trunk(crop_N3SS)
        landmark_N52 = self.landmark(feature).unflatten(1, (2, 5)).transpose(1, 2)
        return self.score(feature).softmax(1)[:, 1], self.box(feature), landmark_N52
