"""A denoiser as the samplers and losses know it: (z, t, ctx) -> prediction. Axes: B batch, C channels, H W
grid, L tokens, D width."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class UNetDenoiser:
    """A UNet as a plain function of latents, timestep and text embedding.

    No module: whoever owns the UNet registers, moves and saves it; the denoiser only calls it.
    """

    def __init__(self, unet: nn.Module) -> None:
        self.unet = unet

    def __call__(self, z_BCHW: Tensor, t: Tensor | int, ctx_BLD: Tensor) -> Tensor:
        """What the UNet predicts (noise, or v, as it was trained), of z's shape; `t` is a scalar or one a
        row."""
        t_B = torch.as_tensor(t, device=z_BCHW.device).expand(z_BCHW.shape[0])
        return self.unet(z_BCHW, t_B, encoder_hidden_states=ctx_BLD, return_dict=False)[0]
