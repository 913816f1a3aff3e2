"""Saliency-adaptive fusion against SciPy, its symmetries, and its degenerate cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, special
from scipy.signal import correlate2d
from torch import Tensor

from fdlab.diffusion.saliency import (
    SaliencyOptions,
    average_pool,
    fuse,
    fusion_mask,
    gaussian_blur,
    response,
    saliency,
)
from fdlab.errors import UserError

shapes = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(2, 17), st.integers(2, 17))


def some(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def fields(size: int = 64, channels: int = 4, seed: int = 0) -> Tensor:
    """Smooth random responses, as models give: blurred noise of unit spread."""
    noise = np.random.default_rng(seed).standard_normal((1, channels, size, size))
    smooth = ndimage.gaussian_filter(noise, (0, 0, 4, 4), mode="wrap")
    return torch.tensor(smooth / smooth.std(), dtype=torch.float32)


def pool_with_scipy(x_HW: np.ndarray) -> np.ndarray:
    """4 x 4 mean over zero padding, then linear interpolation at the centres of H x W cells."""
    height, width = x_HW.shape
    pooled = correlate2d(np.pad(x_HW, 1), np.full((4, 4), 1 / 16), mode="valid")
    rows = (np.arange(height) + 0.5) * (height - 1) / height - 0.5
    columns = (np.arange(width) + 0.5) * (width - 1) / width - 0.5
    return ndimage.map_coordinates(pooled, np.meshgrid(rows, columns, indexing="ij"), order=1, mode="nearest")


@given(shape=shapes, seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_average_pool_is_scipys(shape: tuple[int, ...], seed: int) -> None:
    x = some(shape, seed).double()
    expected = np.stack([[pool_with_scipy(channel.numpy()) for channel in image] for image in x])
    np.testing.assert_allclose(average_pool(x).numpy(), expected, atol=1e-6)


@given(shape=shapes, sigma=st.floats(0.3, 3))
@settings(max_examples=30, deadline=None)
def test_gaussian_is_scipys_normalised_at_the_border(shape: tuple[int, ...], sigma: float) -> None:
    x = some(shape).double()

    def blurred(y: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(y, (0, 0, sigma, sigma), mode="constant", truncate=20 / sigma)

    expected = blurred(x.numpy()) / blurred(np.ones(shape))
    np.testing.assert_allclose(gaussian_blur(x, sigma).numpy(), expected, atol=1e-6)


def test_zero_padding_weakens_the_border_and_the_gaussian_does_not() -> None:
    ones = torch.ones(1, 1, 16, 16)
    pooled = average_pool(ones)[0, 0]
    assert pooled[8, 8] == pytest.approx(1)
    assert pooled[0, 8] == pytest.approx(0.75, abs=0.01) and pooled[0, 0] == pytest.approx(0.5625, abs=0.01)
    torch.testing.assert_close(gaussian_blur(ones, 1.1), ones)
    # The default gaussian spreads as the pool does: variance (4^2 - 1) / 12 a side.
    assert SaliencyOptions().sigma ** 2 == pytest.approx(15 / 12, rel=0.05)


@given(shape=shapes, seed=st.integers(0, 99), temperature=st.floats(0.2, 5))
@settings(max_examples=30, deadline=None)
def test_mask_is_the_larger_softmax(shape: tuple[int, ...], seed: int, temperature: float) -> None:
    omega_T, omega_S = some(shape, seed).double().abs(), some(shape, seed + 100).double().abs()
    log_T, log_S = (
        special.log_softmax(omega.flatten(2).numpy() / temperature, axis=2).reshape(shape)
        for omega in (omega_T, omega_S)
    )
    options = {"temperature": temperature}
    hard = fusion_mask(omega_T, omega_S, SaliencyOptions(**options))
    soft = fusion_mask(omega_T, omega_S, SaliencyOptions(**options, mask="soft"))
    clear = np.abs(log_S - log_T) > 1e-9
    np.testing.assert_array_equal(hard.numpy()[clear], (log_S > log_T)[clear])
    np.testing.assert_allclose(soft.numpy(), np.exp(log_S) / (np.exp(log_S) + np.exp(log_T)), atol=1e-9)
    swapped = fusion_mask(omega_S, omega_T, SaliencyOptions(**options, tie="sdm"))
    assert torch.equal(hard, 1 - swapped)


def test_whole_path_with_one_mask_or_one_a_channel() -> None:
    base, target = some((2, 3, 6, 5)), some((2, 3, 6, 5), 1)
    R = response(base, target, 5.0)
    torch.testing.assert_close(R, 5 * (target - base))
    pooled = np.stack([[pool_with_scipy(channel.abs().numpy()) for channel in image] for image in R])
    np.testing.assert_allclose(saliency(R)[:, 0].numpy(), pooled.mean(1), atol=1e-5)
    np.testing.assert_allclose(saliency(R, SaliencyOptions(reduction="none")).numpy(), pooled, atol=1e-5)


@given(
    seed=st.integers(0, 99),
    reduction=st.sampled_from(["mean", "none"]),
    mask=st.sampled_from(["hard", "soft"]),
)
@settings(max_examples=30, deadline=None)
def test_each_image_for_itself(seed: int, reduction: str, mask: str) -> None:
    options = SaliencyOptions(reduction=reduction, mask=mask)
    R_T, R_S = some((4, 3, 8, 9), seed), some((4, 3, 8, 9), seed + 100)

    def run(rows: list[int]) -> Tensor:
        return fuse(
            R_T[rows],
            R_S[rows],
            fusion_mask(saliency(R_T[rows], options), saliency(R_S[rows], options), options),
        )

    together = run([0, 1, 2, 3])
    assert torch.equal(run([2, 0, 3, 1]), together[[2, 0, 3, 1]])
    torch.testing.assert_close(torch.cat([run([i]) for i in range(4)]), together, rtol=0, atol=1e-5)


def test_fuse_takes_exactly_one_or_mixes() -> None:
    noise_T, noise_S = 100 * some((2, 4, 8, 8)), 1e-3 * some((2, 4, 8, 8), 1)
    mask = (some((2, 1, 8, 8), 2) > 0).float()
    assert torch.equal(fuse(noise_T, noise_S, mask), torch.where(mask.bool(), noise_S, noise_T))
    torch.testing.assert_close(
        fuse(noise_T, noise_S, mask * 0.25), noise_T + 0.25 * mask * (noise_S - noise_T)
    )


@pytest.mark.parametrize("size", [(2, 2), (3, 17), (64, 64)])
def test_ties_go_where_the_rule_says(size: tuple[int, int]) -> None:
    for R in (some((2, 4, *size)), torch.zeros(2, 4, *size), torch.ones(2, 4, *size)):
        omega = saliency(R)
        assert fusion_mask(omega, omega).max() == 0
        assert fusion_mask(omega, omega, SaliencyOptions(tie="sdm")).min() == 1
        assert (fusion_mask(omega, omega, SaliencyOptions(mask="soft")) == 0.5).all()


def test_degenerate_responses_give_finite_masks() -> None:
    silent, spike = torch.zeros(1, 4, 16, 16), torch.zeros(1, 4, 16, 16)
    spike[..., 8, 8] = 1e4
    # A model without any response is uniform; one with a single spike has all its mass there.
    mask = fusion_mask(saliency(silent), saliency(spike))
    where = saliency(spike) > saliency(spike).max() * 0.999
    assert torch.equal(mask.bool(), where)
    for R in (silent, spike, 1e6 * some((1, 4, 16, 16))):
        for kind in ("hard", "soft"):
            assert fusion_mask(saliency(R), saliency(spike), SaliencyOptions(mask=kind)).isfinite().all()


@given(seed=st.integers(0, 20), shift=st.floats(0, 50))
@settings(max_examples=20, deadline=None)
def test_only_contrast_within_a_map_counts(seed: int, shift: float) -> None:
    omega_T, omega_S = some((1, 1, 8, 8), seed).double().abs(), some((1, 1, 8, 8), seed + 50).double().abs()
    assert torch.equal(fusion_mask(omega_T, omega_S), fusion_mask(omega_T + shift, omega_S))


def test_the_stronger_response_gets_the_smaller_area() -> None:
    """A property of the released rule worth knowing, not one to rely on."""
    R_T, R_S = fields(seed=1), fields(seed=2)
    shares = [fusion_mask(saliency(R_T), saliency(k * R_S)).mean().item() for k in (0.25, 0.5, 1, 2, 4)]
    assert shares == sorted(shares, reverse=True) and shares[0] > 0.55 and shares[-1] < 0.45


def test_low_temperature_hardens_nothing_but_the_soft_mask() -> None:
    omega_T, omega_S = saliency(fields(16, seed=1)), saliency(fields(16, seed=2))
    sharp = {"temperature": 1e-4}
    hard = fusion_mask(omega_T, omega_S, SaliencyOptions(**sharp))
    soft = fusion_mask(omega_T, omega_S, SaliencyOptions(**sharp, mask="soft"))
    assert (hard - soft).abs().mean() < 0.02


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_input_is_computed_in_float32(dtype: torch.dtype) -> None:
    base, target = fields(seed=1).to(dtype), fields(seed=2).to(dtype)
    R_T, R_S = response(base, target, 5.0), response(target, base * 0.5, 5.0)
    assert R_T.dtype == torch.float32
    mask = fusion_mask(saliency(R_T), saliency(R_S))
    exact = fusion_mask(saliency(R_T.double()), saliency(R_S.double()))
    assert mask.dtype == torch.float32 and (mask - exact).abs().mean() < 1e-3


def test_float16_probabilities_tie_where_float32_logarithms_do_not() -> None:
    omega_T, omega_S = saliency(fields(seed=1)), saliency(fields(seed=2))
    p_T, p_S = (omega.half().flatten(2).softmax(2) for omega in (omega_T, omega_S))
    assert (p_T == p_S).sum() > 0
    options = [SaliencyOptions(tie=tie) for tie in ("tdm", "sdm")]
    masks = [fusion_mask(omega_T, omega_S, option) for option in options]
    assert torch.equal(masks[0], masks[1]), "the tie rule decided something"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"smoothing": "gausian"}, "gaussian"),
        ({"reduction": "max"}, "mean"),
        ({"mask": "harder"}, "hard"),
        ({"tie": "both"}, "sdm"),
        ({"temperature": 0.0}, "temperature"),
        ({"sigma": -1.0}, "sigma"),
    ],
)
def test_bad_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        SaliencyOptions(**options)


def test_a_grid_too_small_to_pool() -> None:
    with pytest.raises(UserError, match="1 x 5"):
        saliency(torch.ones(1, 4, 1, 5))
    assert saliency(torch.ones(1, 4, 1, 5), SaliencyOptions(smoothing="gaussian")).shape == (1, 1, 1, 5)
