"""The nano autoencoder: AutoencoderKL's interface, built so that a CPU can train it.

A 4 x 4 patch of pixels is folded into channels before the first convolution, and most of the width sits at
the latent grid, where a convolution costs least. Axes: B batch, C channels, H W grid (of pixels or latents).
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F


class ResidualBlock(nn.Module):
    """x + conv(act(norm(conv(act(norm(x)))))), same width in and out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        groups = max(1, width // 16)
        self.norm1 = nn.GroupNorm(groups, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h_BCHW = self.conv1(F.silu(self.norm1(x_BCHW)))
        return x_BCHW + self.conv2(F.silu(self.norm2(h_BCHW)))


def blocks(width: int, num: int) -> list[nn.Module]:
    """A run of residual blocks."""
    return [ResidualBlock(width) for _ in range(num)]


def head(width: int, out: int) -> list[nn.Module]:
    """Norm, activation and a convolution to `out` channels."""
    return [nn.GroupNorm(max(1, width // 16), width), nn.SiLU(), nn.Conv2d(width, out, 3, padding=1)]


class NanoAutoencoder(ModelMixin, ConfigMixin):
    """A KL autoencoder of factor 8 with AutoencoderKL's interface.

    Pixels B3HW in [-1, 1], H and W multiples of 8. Latents BCHW of `latent_channels` at an eighth of the size
    are raw, as with any AutoencoderKL; the denoiser's are (raw - config.shift_factor) *
    config.scaling_factor.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        latent_channels: int = 16,
        outer_width: int = 64,
        inner_width: int = 128,
        fine_width: int = 32,
        outer_blocks: int = 2,
        inner_blocks: int = 3,
        sample_size: int = 128,
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
        force_upcast: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(16 * in_channels, outer_width, 3, padding=1),
            *blocks(outer_width, outer_blocks),
            nn.Conv2d(outer_width, inner_width, 3, stride=2, padding=1),
            *blocks(inner_width, inner_blocks),
            *head(inner_width, 2 * latent_channels),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, inner_width, 3, padding=1),
            *blocks(inner_width, inner_blocks),
            nn.Conv2d(inner_width, 4 * outer_width, 1),
            nn.PixelShuffle(2),
            *blocks(outer_width, outer_blocks),
            # A last block at half resolution: without it the 4 x 4 patches do not see each other's edges.
            nn.Conv2d(outer_width, 4 * fine_width, 1),
            nn.PixelShuffle(2),
            *blocks(fine_width, 1),
            *head(fine_width, 4 * out_channels),
            nn.PixelShuffle(2),
        )

    @property
    def spatial_factor(self) -> int:
        """Pixels a latent, along one side."""
        return 8

    def encode(self, x: Tensor, return_dict: bool = True) -> Any:
        """Pixels B3HW to the posterior over latents (`.latent_dist`: mean, mode(), sample())."""
        posterior = DiagonalGaussianDistribution(self.encoder(x))
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    def decode(self, z: Tensor, return_dict: bool = True, generator: torch.Generator | None = None) -> Any:
        """Raw latents BCHW to pixels (`.sample`); `generator` is taken, and ignored, as by AutoencoderKL."""
        x_B3HW = self.decoder(z)
        return DecoderOutput(sample=x_B3HW) if return_dict else (x_B3HW,)

    def forward(
        self,
        sample: Tensor,
        sample_posterior: bool = False,
        return_dict: bool = True,
        generator: torch.Generator | None = None,
    ) -> Any:
        """Encode, take the mode (or a sample), decode."""
        posterior = DiagonalGaussianDistribution(self.encoder(sample))
        z_BCHW = posterior.sample(generator) if sample_posterior else posterior.mode()
        return self.decode(z_BCHW, return_dict=return_dict)
