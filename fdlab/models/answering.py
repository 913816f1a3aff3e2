"""The network that answers what a picture shows: small, convolutional, looking where each question asks.

Axes: B pictures, A attributes, C channels, h w cells, P places (all cells of the last map), K answers,
S pixels, 3 RGB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import gcd

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (24, 48, 96, 128)
"""Channels at a half, a quarter, an eighth and a sixteenth of a picture's side."""
DEPTHS = (0, 1, 2, 1)
"""Residual blocks at each."""
CELLS = 8
"""Cells a side of the map on which the places are learned."""


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(gcd(8, channels), channels)


class Block(nn.Module):
    """Two convolutions beside an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = _norm(channels), _norm(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_BChw: Tensor) -> Tensor:
        """The same size."""
        return x_BChw + self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x_BChw))))))


class Answering(nn.Module):
    """One answer an attribute, each read where its own attention falls: a collar, a mouth, the sky.

    A patch of a ViT is as large as a collar; here a garment is read from edges of a few pixels.
    """

    def __init__(self, vocabularies: Mapping[str, Sequence[str]], widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width, depth in zip((3, *widths), widths, DEPTHS, strict=False):
            layers += [nn.Conv2d(before, width, 3, stride=2, padding=1)]
            layers += [Block(width) for _ in range(depth)] or [nn.ReLU()]
        self.trunk = nn.Sequential(*layers, _norm(widths[-1]), nn.ReLU())
        self.where = nn.Conv2d(widths[-1], len(vocabularies), 1)
        self.places_AP = nn.Parameter(torch.zeros(len(vocabularies), CELLS * CELLS))
        self.heads = nn.ModuleDict(
            {name: nn.Linear(widths[-1], len(words)) for name, words in vocabularies.items()}
        )

    def forward(self, pixels_B3SS: Tensor) -> dict[str, Tensor]:
        """Each attribute's logits BK."""
        map_BChw = F.adaptive_avg_pool2d(self.trunk(pixels_B3SS), CELLS)
        weights_BAP = (self.where(map_BChw).flatten(2).float() + self.places_AP).softmax(2)
        seen_BAC = weights_BAP @ map_BChw.flatten(2).float().transpose(1, 2)
        return {name: head(seen_BAC[:, a]) for a, (name, head) in enumerate(self.heads.items())}
