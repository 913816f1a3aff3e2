from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fdlab.errors import UserError
from fdlab.measure.faces import Face, HeadCrop, cut_head
from fdlab.people import picture
from fdlab.randomness import numpy_rng
from fdlab.transforms.inputs import normalise
from fdlab.transforms.references import composite

LANDMARKS = np.array([[20, 22], [31, 21], [26, 28], [21, 34], [30, 33]], np.float32)


def sampled(image_HW3: np.ndarray, mask_HW: np.ndarray, size: int) -> torch.Tensor:
    """The same square by bilinear sampling, colours weighted by alpha; (4, S, S): those and alpha."""
    alpha = torch.from_numpy(mask_HW).float()[None, None]
    colour = torch.from_numpy(image_HW3).permute(2, 0, 1)[None].float() / 255
    points = torch.from_numpy(LANDMARKS)
    eyes, mouth = points[:2].mean(0), points[3:].mean(0)
    middle, side = eyes + 0.25 * (mouth - eyes), 3.3 * (mouth - eyes).norm()
    line = (torch.arange(size) + 0.5) / size - 0.5
    down, right = torch.meshgrid(line, line, indexing="ij")
    grid = torch.stack([middle[0] + side * right, middle[1] + side * down], -1)[None] / len(image_HW3) * 2 - 1
    return F.grid_sample(torch.cat([colour * alpha, alpha], 1), grid, align_corners=False)[0]


def smooth(size: int) -> np.ndarray:
    y, x = np.mgrid[:size, :size] / size
    waves = [np.sin(7 * x + k) * np.cos(5 * y - k) for k in range(3)]
    return ((np.stack(waves, -1) * 0.45 + 0.5) * 255).astype(np.uint8)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("size", [96, 45])
def test_the_square_is_that_of_bilinear_sampling_between_the_landmarks(masked: bool, size: int) -> None:
    image_HW3 = smooth(52)
    y, x = np.mgrid[:52, :52]
    mask_HW = (x - 26) ** 2 + (y - 30) ** 2 < 18**2 if masked else np.ones((52, 52), bool)
    rgba_SS4 = cut_head(image_HW3, mask_HW if masked else None, LANDMARKS, size).astype(np.float32) / 255
    wanted = sampled(image_HW3, mask_HW, size).numpy()
    alpha_SS = rgba_SS4[..., 3]
    assert np.abs(alpha_SS - wanted[3]).max() < 0.01
    assert np.abs(rgba_SS4[..., :3] * alpha_SS[..., None] - wanted[:3].transpose(1, 2, 0)).max() < 0.012


def test_beyond_the_picture_nothing_shows() -> None:
    at_the_corner = LANDMARKS - np.array([20, 20], np.float32)
    rgba_SS4 = cut_head(smooth(52), None, at_the_corner, 40)
    assert rgba_SS4[0, 0, 3] == 0 and rgba_SS4[-1, -1, 3] == 255


def test_as_the_encoder_takes_it() -> None:
    rgba_SS4 = cut_head(smooth(52), None, LANDMARKS, 32)
    whole = composite(rgba_SS4, "grey", np.random.default_rng(0))
    wanted = normalise(sampled(smooth(52), np.ones((52, 52), bool), 32)[:3])
    inside = torch.from_numpy(rgba_SS4[..., 3] == 255)
    assert inside.float().mean() > 0.9 and (whole - wanted)[:, inside].abs().max() < 0.06


class Faces:
    """A detector that finds what it is told."""

    def __init__(self, *middles: tuple[float, float]) -> None:
        self.middles = middles

    def __call__(self, images_BHW3: np.ndarray) -> list[list[Face]]:
        shift = [np.array(middle, np.float32) - LANDMARKS.mean(0) for middle in self.middles]
        faces = [Face((0, 0, 10 + k, 10 + k), 0.9, LANDMARKS + by) for k, by in enumerate(shift)]
        return [faces for _ in images_BHW3]


def test_the_face_of_the_person_that_the_mask_shows_is_taken() -> None:
    image_HW3 = smooth(100)
    crop = HeadCrop(Faces((25, 50), (75, 50)))  # type: ignore[arg-type]
    left_HW = np.zeros((100, 100), bool)
    left_HW[:, :50] = True
    landmarks = LANDMARKS + np.array([25, 50], np.float32) - LANDMARKS.mean(0)
    assert np.array_equal(crop(image_HW3, left_HW, 32), cut_head(image_HW3, left_HW, landmarks, 32))
    assert not np.array_equal(crop(image_HW3, None, 32), cut_head(image_HW3, None, landmarks, 32))
    with pytest.raises(UserError, match="no face"):
        HeadCrop(Faces((75, 50)))(image_HW3, left_HW, 32)  # type: ignore[arg-type]


def test_a_rendered_person_is_cut_to_the_head() -> None:
    made = picture.render(picture.draw(picture.MIXES["portraits"], numpy_rng(0, "head"), 8), 128)
    segment = int(np.bincount(made.segments_HW[made.segments_HW > 0]).argmax())
    rgba_SS4 = HeadCrop()(made.image_HW3, made.segments_HW == segment, 96)
    assert rgba_SS4.shape == (96, 96, 4) and rgba_SS4[40:60, 40:56, 3].min() == 255
    with pytest.raises(UserError, match="no face"):
        HeadCrop()(np.full((64, 64, 3), 90, np.uint8), None, 96)
