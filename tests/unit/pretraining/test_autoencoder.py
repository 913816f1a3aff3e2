from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from fdlab.errors import UserError
from fdlab.models.autoencoder import NanoAutoencoder
from fdlab.pretraining.autoencoder import (
    PackedPictures,
    export,
    peak_signal_to_noise,
    pretrain,
    reconstruct,
    set_latent_scale,
)
from fdlab.pretraining.autoencoder_loss import (
    autoencoder_loss,
    edge_error,
    kl_divergence,
    latent_scale,
    weighted_mean,
)

TINY = {
    "outer_width": 16,
    "inner_width": 16,
    "fine_width": 16,
    "outer_blocks": 1,
    "inner_blocks": 1,
    "latent_channels": 4,
}


@pytest.fixture
def model() -> NanoAutoencoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return NanoAutoencoder(**TINY).eval()


@pytest.fixture
def folder(tmp_path):
    """Sixty pictures of a bright square somewhere on a plain ground, 32 px."""
    rng = np.random.default_rng(0)
    images = np.empty((60, 32, 32, 3), np.uint8)
    images[:] = rng.integers(0, 120, (60, 1, 1, 3))
    for image in images:
        y, x = rng.integers(0, 20, 2)
        image[y : y + 10, x : x + 10] = rng.integers(150, 255, 3)
    np.save(tmp_path / "images.npy", images)
    return tmp_path


def test_factor_eight_and_the_interface_of_autoencoderkl(model):
    x = torch.rand(2, 3, 64, 32) * 2 - 1
    posterior = model.encode(x).latent_dist
    assert posterior.mean.shape == (2, 4, 8, 4)
    assert torch.equal(posterior.mode(), posterior.mean)
    drawn = posterior.sample(torch.Generator().manual_seed(1))
    assert torch.equal(drawn, posterior.sample(torch.Generator().manual_seed(1)))
    assert not torch.equal(drawn, posterior.mean)
    assert model.decode(posterior.mode()).sample.shape == x.shape
    assert torch.equal(model(x).sample, model.decode(posterior.mode(), return_dict=False)[0])
    assert model.config.latent_channels == 4


def test_the_nano_size_is_between_one_and_a_half_and_two_and_a_half_million():
    assert 1.5e6 < sum(p.numel() for p in NanoAutoencoder().parameters()) < 2.5e6


def test_losses_by_hand():
    target = torch.zeros(1, 1, 2, 2)
    output = torch.tensor([[[[0.0, 2.0], [0.0, 0.0]]]])
    assert edge_error(output, target, None) == pytest.approx(1.0 + 1.0)
    loss = autoencoder_loss(output, target, torch.ones(1), torch.zeros(1), kl_weight=2.0)
    assert loss.l1 == pytest.approx(0.5) and loss.l2 == pytest.approx(1.0) and loss.kl == pytest.approx(0.5)
    assert loss.total == pytest.approx(0.5 + 1.0 + 2.0 + 1.0)
    assert kl_divergence(torch.zeros(3), torch.zeros(3)) == 0


def test_weights_count_pixels_and_their_scale_does_not_matter():
    error = torch.tensor([[[[1.0, 0.0]]]])
    weight = torch.tensor([[[3.0, 1.0]]])
    assert weighted_mean(error, weight) == pytest.approx(0.75)
    assert weighted_mean(error, 7 * weight) == pytest.approx(0.75)
    assert weighted_mean(error, torch.ones(1, 1, 2)) == weighted_mean(error, None)
    output = torch.zeros(1, 3, 8, 8)
    output[..., :4] = 1.0
    left = torch.ones(1, 8, 8)
    left[..., :4] = 4.0
    plain = autoencoder_loss(output, torch.zeros_like(output), torch.zeros(1), torch.zeros(1))
    heavy = autoencoder_loss(output, torch.zeros_like(output), torch.zeros(1), torch.zeros(1), left)
    assert heavy.l1 == pytest.approx(0.8) and plain.l1 == pytest.approx(0.5)


def test_latents_scaled_have_mean_zero_and_deviation_one():
    z = 3.0 + 5.0 * torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    scale, shift = latent_scale(z)
    scaled = (z - shift) * scale
    assert float(scaled.mean()) == pytest.approx(0, abs=1e-5) and float(scaled.std()) == pytest.approx(
        1, abs=1e-5
    )


def test_exported_in_half_precision_with_the_scale_that_was_set(model, tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3)).astype(np.uint8)
    set_latent_scale(model, images, seed=0)
    export(model, tmp_path / "vae")
    saved = NanoAutoencoder.from_pretrained(
        tmp_path / "vae", low_cpu_mem_usage=False, torch_dtype=torch.float32
    )
    assert saved.config.scaling_factor == model.config.scaling_factor != 1.0
    assert saved.config.shift_factor == model.config.shift_factor != 0.0
    assert next(model.parameters()).dtype == torch.float32
    assert (
        tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    ).stat().st_size < 2.2 * model.num_parameters() + 2e4
    difference = reconstruct(saved, images).astype(int) - reconstruct(model, images).astype(int)
    assert np.abs(difference).max() <= 2


def test_pretraining_learns_stops_and_goes_on(folder):
    pictures = PackedPictures.open(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        blank = NanoAutoencoder(**TINY)
    before = peak_signal_to_noise(pictures.heldout(1), reconstruct(blank.eval(), pictures.heldout(1)))
    assert pretrain(folder, folder / "out", 1.0, batch_size=8, config=TINY, max_steps=20)
    first = json.loads((folder / "out" / "scores.json").read_text())
    assert pretrain(folder, folder / "out", 1.0, batch_size=8, config=TINY, max_steps=60)
    second = json.loads((folder / "out" / "scores.json").read_text())
    assert (first["steps"], second["steps"]) == (20, 60) and first["minutes"] < second["minutes"]
    assert second["psnr"] > before + 3
    assert (folder / "out" / "reconstructions.png").stat().st_size > 100


def test_held_out_pictures_are_in_no_batch(folder):
    pictures = PackedPictures.open(folder)
    heldout = {image.tobytes() for image in pictures.heldout(9)}
    assert len(heldout) == pictures.num_heldout == 1
    images, _ = pictures.batch(0, 0, 500)
    seen = ((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    assert not heldout & {image.tobytes() for image in seen}
    assert torch.equal(pictures.batch(0, 3, 4)[0], pictures.batch(0, 3, 4)[0])


def test_pictures_and_their_weights_are_mirrored_together(folder):
    images = np.load(folder / "images.npy")
    np.save(folder / "weights.npy", images[..., 0])
    found, weight = PackedPictures.open(folder).batch(0, 0, 32)
    assert torch.allclose((found[:, 0] + 1) * 127.5, weight, atol=1e-3)


def test_what_is_no_packed_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"images\.npy"):
        PackedPictures.open(tmp_path)
    np.save(tmp_path / "images.npy", np.zeros((3, 8, 8), np.uint8))
    with pytest.raises(UserError, match=r"\(N, H, W, 3\)"):
        PackedPictures.open(tmp_path)
