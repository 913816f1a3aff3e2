"""Saliency-adaptive noise fusion: which of two models draws each place (arXiv 2311.10329).

Axes: B batch, C latent channels, H W latent grid; K is C, or 1 where channels are averaged. Suffix T is the
text-driven model, S the subject-augmented one. Computed in float32 at least, for any grid and batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fdlab.diffusion.precision import at_least_float32
from fdlab.errors import UserError, unknown

SMOOTHINGS = ("average", "gaussian")
REDUCTIONS = ("mean", "none")
MASKS = ("hard", "soft")
TIES = ("tdm", "sdm")

POOL = 4
"""Side of the released average pool, in latent cells."""


@dataclass(frozen=True)
class SaliencyOptions:
    """What the released code fixes; the defaults are its choices."""

    smoothing: str = "average"
    """average: zero-padded 4 x 4 pool (weakens the border); gaussian: normalised at the border."""
    sigma: float = 1.1
    """Width of the gaussian in latent cells; 1.1 has the spread of the 4 x 4 pool."""
    reduction: str = "mean"
    """mean: one mask for all channels; none: a mask for each channel."""
    temperature: float = 1.0
    """Divides the saliencies before their softmax: smaller compares peaks, larger compares nothing."""
    mask: str = "hard"
    """hard: each place goes to one model; soft: by the ratio of the two softmaxes."""
    tie: str = "tdm"
    """Which model a hard mask gives a tie to."""

    def __post_init__(self) -> None:
        for key, allowed in (
            ("smoothing", SMOOTHINGS),
            ("reduction", REDUCTIONS),
            ("mask", MASKS),
            ("tie", TIES),
        ):
            if getattr(self, key) not in allowed:
                raise unknown(f"saliency {key}", str(getattr(self, key)), allowed)
        for key in ("sigma", "temperature"):
            if not (math.isfinite(getattr(self, key)) and getattr(self, key) > 0):
                raise UserError(f"saliency {key} is {getattr(self, key)}; it must be a positive number.")


def response(base_BCHW: Tensor, target_BCHW: Tensor, scale: float) -> Tensor:
    """R = scale (target - base): what the condition changes in the noise."""
    return scale * (at_least_float32(target_BCHW) - at_least_float32(base_BCHW))


def saliency(response_BCHW: Tensor, options: SaliencyOptions = SaliencyOptions()) -> Tensor:
    """Omega: the smoothed magnitude of a response; (B, K, H, W), 0 or more."""
    magnitude_BCHW = at_least_float32(response_BCHW).abs()
    if options.smoothing == "average":
        smooth_BCHW = average_pool(magnitude_BCHW)
    else:
        smooth_BCHW = gaussian_blur(magnitude_BCHW, options.sigma)
    return smooth_BCHW.mean(1, keepdim=True) if options.reduction == "mean" else smooth_BCHW


def fusion_mask(
    saliency_T_BKHW: Tensor, saliency_S_BKHW: Tensor, options: SaliencyOptions = SaliencyOptions()
) -> Tensor:
    """M: the subject-augmented model's share of each place; (B, K, H, W) in [0, 1], exactly 0 or 1 if hard.

    Each saliency is normalised by a softmax over all positions, so what counts is where a model's response is
    strong relative to its own elsewhere. Compared as logarithms, which do not tie where probabilities
    underflow.
    """
    log_T_BKHW = _log_softmax_over_positions(saliency_T_BKHW, options.temperature)
    log_S_BKHW = _log_softmax_over_positions(saliency_S_BKHW, options.temperature)
    if options.mask == "soft":
        return torch.sigmoid(log_S_BKHW - log_T_BKHW)
    to_sdm = log_S_BKHW > log_T_BKHW if options.tie == "tdm" else log_S_BKHW >= log_T_BKHW
    return to_sdm.to(log_S_BKHW.dtype)


def fuse(noise_T_BCHW: Tensor, noise_S_BCHW: Tensor, mask_BKHW: Tensor) -> Tensor:
    """M noise_S + (1 - M) noise_T; where M is 0 or 1, one of the two exactly."""
    noise_T_BCHW, noise_S_BCHW = at_least_float32(noise_T_BCHW), at_least_float32(noise_S_BCHW)
    return torch.lerp(noise_T_BCHW, noise_S_BCHW, mask_BKHW.to(noise_T_BCHW.dtype).expand_as(noise_T_BCHW))


def average_pool(x_BCHW: Tensor) -> Tensor:
    """The released smoothing: 4 x 4 mean, stride 1, padding 1 (zeros count), resized from H-1 to H."""
    size = x_BCHW.shape[-2:]
    if min(size) < 2:
        raise UserError(f"the latent grid is {size[0]} x {size[1]}; smoothing 'average' needs 2 x 2 or more.")
    pooled = F.avg_pool2d(x_BCHW, POOL, stride=1, padding=1)
    return F.interpolate(pooled, size, mode="bilinear", antialias=True)


def gaussian_blur(x_BCHW: Tensor, sigma: float) -> Tensor:
    """Gaussian mean over the cells that exist: a constant stays constant up to the border."""
    rows_HH = _gaussian_matrix(x_BCHW.shape[-2], sigma, x_BCHW)
    columns_WW = _gaussian_matrix(x_BCHW.shape[-1], sigma, x_BCHW)
    return rows_HH @ x_BCHW @ columns_WW.T


def _gaussian_matrix(size: int, sigma: float, like: Tensor) -> Tensor:
    place = torch.arange(size, device=like.device, dtype=like.dtype)
    weights = torch.exp(-0.5 * ((place[:, None] - place[None, :]) / sigma) ** 2)
    return weights / weights.sum(1, keepdim=True)


def _log_softmax_over_positions(saliency_BKHW: Tensor, temperature: float) -> Tensor:
    flat = at_least_float32(saliency_BKHW).flatten(2) / temperature
    return F.log_softmax(flat, dim=2).view(saliency_BKHW.shape)
