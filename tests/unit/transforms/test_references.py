from __future__ import annotations

import numpy as np
import pytest
import torch

from fdlab.errors import UserError
from fdlab.transforms.framing import framed, resize
from fdlab.transforms.inputs import CLIP_MEAN, CLIP_STD, latent_mask, normalise, to_model
from fdlab.transforms.references import composite, cut_out, cut_rgba


def person(height: int = 40, width: int = 60) -> tuple[np.ndarray, np.ndarray]:
    image, mask = np.full((height, width, 3), 200, np.uint8), np.zeros((height, width), np.uint8)
    mask[5:35, 40:52] = 1
    image[mask > 0] = [10, 20, 30]
    return image, mask


def test_the_square_holds_the_people() -> None:
    image, mask = person()
    cropped, labels = framed(image, mask, (20, 20))
    assert cropped.shape == (20, 20, 3) and labels.shape == (20, 20)
    # 360 of 1600 pixels of the 40-pixel square that lies at the picture's right edge.
    assert (labels > 0).mean() == pytest.approx(360 / 1600, abs=0.02)
    assert np.abs(cropped[10, np.nonzero(labels[10])[0][2]].astype(int) - [10, 20, 30]).max() <= 4


def test_resizing_is_antialiased() -> None:
    checkers = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    assert np.abs(resize(checkers, 16).astype(int) - 127).max() <= 2


def test_a_reference_shows_the_person_and_nothing_else() -> None:
    image, mask = person()
    rgba = cut_rgba(image, mask, 15)
    assert rgba.shape == (15, 15, 4)
    inside = rgba[..., 3] == 255
    assert np.abs(rgba[inside][:, :3].astype(int) - [10, 20, 30]).max() <= 1
    # 12 of 30 columns; centred.
    assert inside.mean() == pytest.approx(12 / 30, abs=0.07)
    assert (rgba[:, :3, 3] == 0).all() and (rgba[:, -3:, 3] == 0).all()
    # No colour of the background bleeds over the edge of the mask.
    edge = (rgba[..., 3] > 30) & ~inside
    assert np.abs(rgba[edge][:, :3].astype(int) - [10, 20, 30]).max() <= 3


def test_backgrounds() -> None:
    rgba = cut_rgba(*person(), 16)
    rng = np.random.default_rng(0)
    grey = composite(rgba, "grey", rng)
    assert grey[:, 0, 0].abs().max() < 1e-6
    white = composite(rgba, "white", rng)[:, 0, 0]
    torch.testing.assert_close(white, normalise(torch.ones(3, 1, 1))[:, 0, 0])
    noise = [composite(rgba, "noise", np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert torch.equal(noise[0], noise[1]) and not torch.equal(noise[0], noise[2])
    assert torch.equal(noise[0][:, 8, 8], noise[2][:, 8, 8])
    with pytest.raises(UserError, match="Did you mean 'grey'"):
        composite(rgba, "gray", rng)  # type: ignore[arg-type]


def test_cut_out_of_a_picture_without_a_mask_takes_its_middle() -> None:
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, 10:30] = 255
    reference = cut_out(image, None, 8, "grey", np.random.default_rng(0))
    expected = (1 - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)
    torch.testing.assert_close(reference, expected[:, None, None].expand(3, 8, 8))


def test_latent_mask_pools_by_area_and_keeps_small_people() -> None:
    mask = np.zeros((16, 16), bool)
    mask[0:8, 0:5] = True
    np.testing.assert_array_equal(latent_mask(mask, 2, 2), [[1, 0], [0, 0]])
    mask[:] = False
    mask[9, 9:12] = True
    np.testing.assert_array_equal(latent_mask(mask, 2, 2), [[0, 0], [0, 1]])
    assert not latent_mask(np.zeros((16, 16)), 2, 2).any()


def test_pixels_to_model_range() -> None:
    pixels = to_model(np.array([[[0, 255, 127]]], np.uint8))
    torch.testing.assert_close(pixels.flatten(), torch.tensor([-1.0, 1.0, 127 / 127.5 - 1]))
