"""What the autoencoder is trained on: pixels, edges and the posterior's divergence from a normal.

Axes: B batch, C channels, H W grid.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class AutoencoderLoss(NamedTuple):
    """The total and its parts, scalars."""

    total: Tensor
    l1: Tensor
    l2: Tensor
    edges: Tensor
    kl: Tensor


def weighted_mean(error_BCHW: Tensor, weight_BHW: Tensor | None) -> Tensor:
    """Mean over everything, pixels counted by `weight_BHW` (any positive scale) when given."""
    if weight_BHW is None:
        return error_BCHW.mean()
    return (error_BCHW.mean(dim=1) * weight_BHW).sum() / weight_BHW.sum()


def edge_error(output_BCHW: Tensor, target_BCHW: Tensor, weight_BHW: Tensor | None) -> Tensor:
    """Mean absolute difference of the finite differences along both sides: here blur is dear."""
    difference = output_BCHW - target_BCHW
    across, down = difference.diff(dim=3).abs(), difference.diff(dim=2).abs()
    if weight_BHW is None:
        return across.mean() + down.mean()
    return weighted_mean(across, weight_BHW[:, :, 1:]) + weighted_mean(down, weight_BHW[:, 1:, :])


def kl_divergence(mean_BCHW: Tensor, logvar_BCHW: Tensor) -> Tensor:
    """KL(N(mean, exp(logvar)) || N(0, 1)) in nats, averaged over the latents' elements."""
    return 0.5 * (mean_BCHW.square() + logvar_BCHW.exp() - 1.0 - logvar_BCHW).mean()


def autoencoder_loss(
    output_BCHW: Tensor,
    target_BCHW: Tensor,
    mean_BCHW: Tensor,
    logvar_BCHW: Tensor,
    weight_BHW: Tensor | None = None,
    l2_weight: float = 1.0,
    edge_weight: float = 1.0,
    kl_weight: float = 1e-5,
) -> AutoencoderLoss:
    """L1 + L2 + L1 of image gradients + KL, pixels weighted by `weight_BHW` (faces more than sky)."""
    output_BCHW, target_BCHW = output_BCHW.float(), target_BCHW.float()
    difference = output_BCHW - target_BCHW
    l1 = weighted_mean(difference.abs(), weight_BHW)
    l2 = weighted_mean(difference.square(), weight_BHW)
    edges = edge_error(output_BCHW, target_BCHW, weight_BHW)
    kl = kl_divergence(mean_BCHW.float(), logvar_BCHW.float())
    total = l1 + l2_weight * l2 + edge_weight * edges + kl_weight * kl
    return AutoencoderLoss(total, l1.detach(), l2.detach(), edges.detach(), kl.detach())


def latent_scale(z_BCHW: Tensor) -> tuple[float, float]:
    """(scaling_factor, shift_factor) that give these raw latents mean 0 and deviation 1 over all elements."""
    z = z_BCHW.to(torch.float64)
    return float(1.0 / z.std()), float(z.mean())
