"""Training losses against sums written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fdlab.diffusion.losses import (
    attention_grid,
    localization_loss,
    masked_noise_loss,
    min_snr_weight,
    noise_loss,
)
from fdlab.diffusion.noise import NoiseSchedule
from fdlab.errors import UserError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed))


def test_noise_loss_is_the_mean_square_and_weights_each_sample() -> None:
    prediction, target = some(3, 2, 4, 5), some(3, 2, 4, 5, seed=1)
    torch.testing.assert_close(noise_loss(prediction, target), (prediction - target).square().mean())
    weight_B = torch.tensor([0.0, 2.0, 0.5])
    each = [(prediction[i] - target[i]).square().mean() for i in range(3)]
    torch.testing.assert_close(noise_loss(prediction, target, weight_B), (2 * each[1] + 0.5 * each[2]) / 3)
    assert noise_loss(prediction.bfloat16(), target.bfloat16()).dtype == torch.float32
    with pytest.raises(ValueError, match="differ"):
        noise_loss(prediction, target[:1])


@given(t=st.integers(0, 999), gamma=st.floats(0.5, 20), seed=st.integers(0, 50))
@settings(max_examples=60, deadline=None)
def test_min_snr_weights_make_the_same_loss_on_the_picture(t: int, gamma: float, seed: int) -> None:
    """Whatever is predicted, weight x its squared error = min(SNR, gamma) x the squared error of z_0."""
    t_1 = torch.tensor([t])
    z0, eps, wrong = (some(1, 2, 3, 3, seed=3 * seed + i).double() for i in range(3))
    for kind in ("epsilon", "v_prediction"):
        schedule = NoiseSchedule(NoiseSchedule.from_config({}).alphas_cumprod_T.double(), kind)
        z, target = schedule.add_noise(z0, eps, t_1), schedule.target(z0, eps, t_1)
        prediction = target + 0.1 * wrong
        snr = schedule.snr(t_1)
        on_output = min_snr_weight(snr, gamma, kind) * (prediction - target).square().sum()
        on_picture = snr.clamp(max=gamma) * (schedule.clean(z, prediction, t_1) - z0).square().sum()
        torch.testing.assert_close(on_output, on_picture, rtol=1e-5, atol=1e-9)


def test_min_snr_weight_at_the_ends() -> None:
    snr = torch.tensor([0.0, 1.0, 5.0, 50.0, float("inf")])
    torch.testing.assert_close(min_snr_weight(snr, 5.0), torch.tensor([1.0, 1.0, 1.0, 0.1, 0.0]))
    v = min_snr_weight(snr, 5.0, "v_prediction")
    torch.testing.assert_close(v, torch.tensor([0.0, 0.5, 5 / 6, 5 / 51, 0.0]))
    with pytest.raises(UserError, match="gamma"):
        min_snr_weight(snr, 0.0)
    with pytest.raises(UserError, match="v_prediction"):
        min_snr_weight(snr, 5.0, "v_predict")


@pytest.fixture
def batch() -> dict[str, Tensor]:
    """Three samples: two subjects (overlapping), one beside a padded mask that must not count, none."""
    mask_BNHW = torch.zeros(3, 2, 4, 4)
    mask_BNHW[0, 0, :2, :3] = 1
    mask_BNHW[0, 1, 1:3, 1:] = 1
    mask_BNHW[1, 0, 3, :] = 1
    mask_BNHW[1, 1, :, :] = 1
    valid_BN = torch.tensor([[True, True], [True, False], [False, False]])
    return {
        "prediction_BCHW": some(3, 2, 4, 4),
        "target_BCHW": some(3, 2, 4, 4, seed=1),
        "mask_BNHW": mask_BNHW,
        "valid_BN": valid_BN,
    }


def written_out(batch: dict[str, Tensor], normalized: bool) -> list[float]:
    """The masked loss of each sample, pixel by pixel."""
    error = (batch["prediction_BCHW"] - batch["target_BCHW"]).square().numpy()
    losses = []
    for b in range(3):
        total, count = 0.0, 0
        for c, h, w in itertools.product(range(2), range(4), range(4)):
            inside = any(batch["valid_BN"][b, n] and batch["mask_BNHW"][b, n, h, w] for n in range(2))
            total, count = total + inside * error[b, c, h, w], count + inside
        if normalized:
            losses.append(total / count if count else float(error[b].mean()))
        else:
            losses.append(total / (2 * 4 * 4))
    return losses


@pytest.mark.parametrize("normalized", [False, True])
def test_masked_loss_written_out(batch: dict[str, Tensor], normalized: bool) -> None:
    def loss(masked: bool, **more: Tensor) -> float:
        masked_B = torch.full((3,), masked)
        return masked_noise_loss(**batch, masked_B=masked_B, normalized=normalized, **more).item()

    expected = written_out(batch, normalized)
    assert loss(True) == pytest.approx(np.mean(expected), rel=1e-5)
    weighted = loss(True, weight_B=torch.tensor([1.0, 3.0, 0.5]))
    assert weighted == pytest.approx(np.mean(np.multiply(expected, [1.0, 3.0, 0.5])), rel=1e-5)
    assert loss(False) == pytest.approx(noise_loss(batch["prediction_BCHW"], batch["target_BCHW"]).item())


@pytest.mark.parametrize("normalized", [False, True])
def test_each_sample_is_masked_by_itself(batch: dict[str, Tensor], normalized: bool) -> None:
    full = (batch["prediction_BCHW"] - batch["target_BCHW"]).square().flatten(1).mean(1).tolist()
    masked = written_out(batch, normalized)
    for coins in itertools.product((False, True), repeat=3):
        found = masked_noise_loss(**batch, masked_B=torch.tensor(coins), normalized=normalized).item()
        expected = np.mean(
            [inside if coin else all_ for coin, inside, all_ in zip(coins, masked, full, strict=True)]
        )
        assert found == pytest.approx(expected, rel=1e-5)


def test_a_bigger_mask_is_resized_to_the_latents(batch: dict[str, Tensor]) -> None:
    bigger = {**batch, "mask_BNHW": batch["mask_BNHW"].repeat_interleave(8, 2).repeat_interleave(8, 3)}
    losses = [
        masked_noise_loss(**b, masked_B=torch.ones(3, dtype=torch.bool)).item() for b in (batch, bigger)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def attention(*shape: int, seed: int = 0) -> Tensor:
    return some(*shape, seed=seed).double().softmax(-1)


@pytest.mark.parametrize("normalize", [False, True])
def test_localization_written_out(normalize: bool) -> None:
    maps = [attention(2, 3, 24, 7), attention(2, 2, 24, 7, seed=1)]
    mask = (some(2, 2, 4, 6) > 0).double()
    index, valid = torch.tensor([[1, 4], [6, 0]]), torch.tensor([[True, True], [True, False]])
    layers = []
    for layer in maps:
        total = 0.0
        for b, head in itertools.product(range(2), range(layer.shape[1])):
            for n in range(2):
                if valid[b, n]:
                    values = layer[b, head, :, index[b, n]].reshape(4, 6)
                    values = values / (values.max() + 1e-5) if normalize else values
                    inside = mask[b, n] > 0
                    total += float(values[~inside].mean() - values[inside].mean()) / int(valid[b].sum())
        layers.append(total / (2 * layer.shape[1]))
    ours = localization_loss(maps, mask, index, valid, normalize).item()
    assert ours == pytest.approx(np.mean(layers), rel=1e-3)


def test_localization_is_best_when_attention_lies_on_the_mask() -> None:
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2, :2] = 1
    on = torch.zeros(1, 1, 16, 3)
    on[0, 0, :, 2] = mask.flatten()
    args = (mask, torch.tensor([[2]]), torch.tensor([[True]]))
    assert localization_loss([on], *args).item() == pytest.approx(-1, abs=1e-3)
    off = on.clone()
    off[0, 0, :, 2] = 1 - mask.flatten()
    assert localization_loss([off], *args).item() == pytest.approx(1, abs=1e-3)


def test_localization_moves_attention_onto_the_mask_and_leaves_the_rest() -> None:
    scores = some(2, 2, 16, 5).double().requires_grad_()
    mask = torch.zeros(2, 2, 4, 4)
    mask[:, :, 1:3, 1:3] = 1
    index, valid = torch.tensor([[1, 3], [2, 0]]), torch.tensor([[True, True], [True, False]])

    layer = scores.softmax(-1)
    layer.retain_grad()
    localization_loss([layer], mask, index, valid).backward()
    assert layer.grad is not None and scores.grad is not None
    inside = mask[0, 0].flatten().bool()
    for b, n in ((0, 0), (0, 1), (1, 0)):
        gradient = layer.grad[b, :, :, index[b, n]]
        assert (gradient[:, inside] < 0).all() and (gradient[:, ~inside] > 0).all()
    assert layer.grad[1, :, :, 0].abs().max() == 0, "a padded subject's token"
    assert layer.grad[0, :, :, [0, 2, 4]].abs().max() == 0, "tokens of no subject"

    lower = localization_loss([(scores - 100 * scores.grad).softmax(-1)], mask, index, valid)
    assert lower < localization_loss([scores.softmax(-1)], mask, index, valid)


def test_localization_gradient_is_the_finite_difference() -> None:
    mask = (some(1, 2, 4, 4) > 0).double()
    args = (mask, torch.tensor([[1, 2]]), torch.tensor([[True, True]]))
    scores = attention(1, 1, 16, 4).requires_grad_()
    for normalize in (False, True):
        assert torch.autograd.gradcheck(lambda s, n=normalize: localization_loss([s], *args, n), scores)


def test_localization_without_any_subject_is_zero() -> None:
    none = torch.zeros(1, 2, dtype=torch.bool)
    loss = localization_loss(
        [attention(1, 1, 16, 4)], torch.zeros(1, 2, 4, 4), torch.zeros(1, 2).long(), none
    )
    assert loss == 0
    with pytest.raises(ValueError, match="at least one"):
        localization_loss([], torch.zeros(1, 2, 4, 4), torch.zeros(1, 2).long(), none)


def test_grids_of_attention_maps() -> None:
    assert attention_grid(64, 64, 256) == (16, 16)
    assert attention_grid(64, 96, 24 * 16) == (16, 24)
    assert attention_grid(9, 12, 5 * 6) == (5, 6)
    assert attention_grid(16, 16, 1) == (1, 1)
    with pytest.raises(ValueError, match="halving"):
        attention_grid(16, 16, 60)
