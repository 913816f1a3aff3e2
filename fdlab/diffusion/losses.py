"""Training losses: noise regression, its weightings and masks, and the localization of cross-attention.

Axes: B batch, C latent channels, H W latent grid, N subjects (padded), L tokens. All are computed in float32
(float64 if given) whatever the model's dtype, and return a scalar unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from fdlab.diffusion.noise import PREDICTION_TYPES
from fdlab.diffusion.precision import at_least_float32
from fdlab.errors import UserError, unknown

EPSILON = 1e-5
"""Added to denominators where the released code adds it."""


def noise_loss(prediction_BCHW: Tensor, target_BCHW: Tensor, weight_B: Tensor | None = None) -> Tensor:
    """Mean squared error over pixels and channels, each sample weighted (Ho et al. 2020, eq. 14)."""
    error_B = _squared_error(prediction_BCHW, target_BCHW).flatten(1).mean(1)
    return _weighted(error_B, weight_B).mean()


def min_snr_weight(snr_B: Tensor, gamma: float = 5.0, prediction_type: str = "epsilon") -> Tensor:
    """Weights that make a regression a loss on z_0 weighted min(SNR, gamma) (Hang et al. 2023).

    epsilon: min(SNR, gamma) / SNR; v: min(SNR, gamma) / (SNR + 1). Finite at SNR = 0.
    """
    if gamma <= 0:
        raise UserError(f"min-SNR gamma is {gamma}; it must be positive (5 in the paper).")
    if prediction_type == "epsilon":
        return (gamma / snr_B).clamp(max=1.0)
    if prediction_type == "v_prediction":
        return snr_B.clamp(max=gamma) / (snr_B + 1.0)
    raise unknown("prediction type", prediction_type, PREDICTION_TYPES)


def masked_noise_loss(
    prediction_BCHW: Tensor,
    target_BCHW: Tensor,
    mask_BNHW: Tensor,
    valid_BN: Tensor,
    masked_B: Tensor,
    *,
    normalized: bool = False,
    weight_B: Tensor | None = None,
    pixel_weight_B1HW: Tensor | None = None,
) -> Tensor:
    """Noise loss that looks, in the samples of `masked_B` (booleans), only at the subjects (union of their
    masks, 0/1).

    As released (`normalized=False`): the error outside the subjects is zeroed but the mean still divides by
    all pixels, so a sample without subjects contributes nothing. `normalized=True`: the mean is over the
    masked area; a sample without subjects keeps its full loss.

    `pixel_weight_B1HW` weighs places, inside and outside of masks alike.
    """
    error_BCHW = _squared_error(prediction_BCHW, target_BCHW)
    if pixel_weight_B1HW is not None:
        error_BCHW = error_BCHW * pixel_weight_B1HW
    channels = error_BCHW.shape[1]
    area_B1HW = _union(mask_BNHW, valid_BN, error_BCHW)
    full_B = error_BCHW.flatten(1).mean(1)
    if normalized:
        inside_B = (error_BCHW * area_B1HW).flatten(1).sum(1)
        area_B = area_B1HW.flatten(1).sum(1) * channels
        inside_B = torch.where(area_B > 0, inside_B / area_B.clamp(min=1.0), full_B)
    else:
        # The released code masks prediction and target before squaring, hence the square.
        inside_B = (error_BCHW * area_B1HW.square()).flatten(1).mean(1)
    return _weighted(torch.where(masked_B, inside_B, full_B), weight_B).mean()


def localization_loss(
    maps: Sequence[Tensor],
    mask_BNHW: Tensor,
    token_index_BN: Tensor,
    valid_BN: Tensor,
    normalize: bool = False,
) -> Tensor:
    """Balanced L1: attention to a subject's token off its mask minus on it (FastComposer, arXiv 2305.10431).

    `maps`: one (B, heads, H'W', L) tensor of attention probabilities per captured layer, row-major on a grid
    of the mask's aspect. For each subject: mean over the background minus mean over its mask; then averaged
    over its sample's subjects, samples, heads and layers. `normalize` first divides each token's map by its
    maximum over positions. Range [-1, 1]; lower is better. Gradients flow into `maps`.
    """
    if not maps:
        raise ValueError("localization_loss needs at least one cross-attention map")
    valid_BN = valid_BN.to(at_least_float32(maps[0]).dtype)
    total = torch.stack([_localization(m, mask_BNHW, token_index_BN, valid_BN, normalize) for m in maps])
    return total.mean()


def _localization(
    map_BhPL: Tensor, mask_BNHW: Tensor, token_index_BN: Tensor, valid_BN: Tensor, normalize: bool
) -> Tensor:
    num, heads, positions, _ = map_BhPL.shape
    subjects = mask_BNHW.shape[1]
    height, width = attention_grid(mask_BNHW.shape[-2], mask_BNHW.shape[-1], positions)
    mask_BNhw = F.interpolate(at_least_float32(mask_BNHW), (height, width), mode="bilinear", antialias=True)
    mask_B1PN = mask_BNhw.flatten(2).transpose(1, 2).unsqueeze(1)

    index_BhPN = token_index_BN.clamp(min=0).view(num, 1, 1, subjects).expand(num, heads, positions, subjects)
    attention_BhPN = at_least_float32(map_BhPL.gather(3, index_BhPN))
    if normalize:
        attention_BhPN = attention_BhPN / (attention_BhPN.amax(dim=2, keepdim=True) + EPSILON)
    off_BhN = (attention_BhPN * (1 - mask_B1PN)).sum(2) / ((1 - mask_B1PN).sum(2) + EPSILON)
    on_BhN = (attention_BhPN * mask_B1PN).sum(2) / (mask_B1PN.sum(2) + EPSILON)
    loss_BhN = (off_BhN - on_BhN) * valid_BN.unsqueeze(1)
    return (loss_BhN.sum(2) / (valid_BN.sum(1, keepdim=True) + EPSILON)).mean()


def attention_grid(height: int, width: int, positions: int) -> tuple[int, int]:
    """The grid of `positions` cells that halving (height, width), rounding up as UNets do, arrives at.

    Raises ValueError when none does, so that a mask can never silently be laid over the wrong places.
    """
    h, w = height, width
    while h * w > positions and (h > 1 or w > 1):
        h, w = (h + 1) // 2, (w + 1) // 2
    if h * w != positions:
        raise ValueError(
            f"no halving of the {height} x {width} mask has the attention map's {positions} positions"
        )
    return h, w


def _union(mask_BNHW: Tensor, valid_BN: Tensor, like_BCHW: Tensor) -> Tensor:
    mask_BNHW = mask_BNHW.to(like_BCHW.dtype) * valid_BN[:, :, None, None].to(like_BCHW.dtype)
    union_B1HW = (mask_BNHW.sum(1, keepdim=True) > 0).to(like_BCHW.dtype)
    if union_B1HW.shape[-2:] != like_BCHW.shape[-2:]:
        union_B1HW = F.interpolate(union_B1HW, like_BCHW.shape[-2:], mode="bilinear", align_corners=False)
    return union_B1HW


def _squared_error(prediction_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
    if prediction_BCHW.shape != target_BCHW.shape:
        raise ValueError(
            f"prediction {tuple(prediction_BCHW.shape)} and target {tuple(target_BCHW.shape)} differ"
        )
    return (at_least_float32(prediction_BCHW) - at_least_float32(target_BCHW)).square()


def _weighted(error_B: Tensor, weight_B: Tensor | None) -> Tensor:
    return error_B if weight_B is None else error_B * weight_B.to(error_B)
