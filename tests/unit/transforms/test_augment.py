"""Changed references against other libraries' arithmetic: Pillow's rotation, SciPy's blur."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from fdlab.errors import UserError
from fdlab.transforms.augment import Augment, Change, augmented, changed, draw

SIDE, LINEAR = 64, Image.Resampling.BILINEAR
NOTHING = draw(Augment(), np.random.default_rng(0))


def person() -> np.ndarray:
    """A leaning shape without symmetry; colours say where a pixel lay: red its column, green its row."""
    y, x = np.mgrid[:SIDE, :SIDE]
    rgba_RR4 = np.zeros((SIDE, SIDE, 4), np.uint8)
    inside = ((x - 30) / 16) ** 2 + ((y - 34) / 24) ** 2 < 1
    inside |= (abs(x - 44) < 6) & (abs(y - 20) < 5)
    rgba_RR4[..., 0], rgba_RR4[..., 1], rgba_RR4[..., 2] = 4 * x, 4 * y, 90
    rgba_RR4[..., 3] = 255 * inside
    rgba_RR4[~inside, :3] = 0
    return rgba_RR4


def test_without_strength_nothing_changes() -> None:
    assert not Augment().changes and Augment(grey=0.1).changes
    assert (changed(person(), NOTHING) == person()).all()


@pytest.mark.parametrize(("scale", "angle"), [(1.0, 25.0), (1.0, -40.0), (1.3, 0.0), (0.7, 15.0)])
def test_size_and_angle_are_those_of_another_library(scale: float, angle: float) -> None:
    """Pillow turns counter-clockwise; its transform maps the result's pixels to the picture's."""
    made = changed(person(), replace(NOTHING, scale=scale, angle=angle))
    middle = (SIDE - 1) / 2 + 0.5
    shrink = (1 / scale, 0, middle - middle / scale, 0, 1 / scale, middle - middle / scale)
    turned = Image.fromarray(person()[..., 3]).rotate(angle, LINEAR)
    expected = np.asarray(turned.transform((SIDE, SIDE), Image.Transform.AFFINE, shrink, LINEAR))
    ours, theirs = made[..., 3] > 127, expected > 127
    assert (ours & theirs).sum() / (ours | theirs).sum() > 0.96
    assert np.abs(np.argwhere(ours).mean(0) - np.argwhere(theirs).mean(0)).max() < 0.3


def test_colours_move_with_the_person() -> None:
    """Where a colour says a pixel came from is where the shape was, however it is bent."""
    rng, shape = np.random.default_rng(3), person()[..., 3] > 0
    for _ in range(5):
        change = draw(Augment(zoom=0.3, rotate=30, elastic=0.08), rng)
        made = changed(person(), change)
        solid = made[..., 3] == 255
        column, row = (made[solid][:, :2].astype(float) / 4).round().astype(int).T
        assert solid.sum() > 300 and shape[row, column].mean() > 0.98
        # And what is transparent is so to the last level.
        assert not made[made[..., 3] == 0].any()


def test_bending_shifts_points_by_no_more_than_asked() -> None:
    made = changed(person(), replace(NOTHING, shift_2GG=np.full((2, 5, 5), 0.05)))
    solid = made[..., 3] == 255
    y, x = np.nonzero(solid)
    came = made[solid][:, :2].astype(float) / 4
    assert np.abs(came - np.stack([x, y], 1) - 0.05 * SIDE).max() < 0.2
    drawn = draw(Augment(elastic=0.1), np.random.default_rng(0)).shift_2GG
    assert 0.05 < np.abs(drawn).max() <= 0.1


def test_blur_is_a_gaussian() -> None:
    made = changed(person(), replace(NOTHING, blur=0.03))
    weights, smooth = person()[..., 3] / 255, partial(ndimage.gaussian_filter, mode="constant", truncate=3.2)
    alpha = smooth(weights, 0.03 * SIDE)
    assert np.abs(made[..., 3] / 255 - alpha).max() < 0.01
    red = smooth(person()[..., 0] / 255 * weights, 0.03 * SIDE)
    seen = alpha > 0.05
    assert np.abs(made[..., 0] / 255 - red / np.maximum(alpha, 1e-9))[seen].max() < 0.02


def test_colours_change_about_the_person_alone() -> None:
    before = person()[person()[..., 3] > 0][:, :3] / 255

    def after(change: Change) -> np.ndarray:
        made = changed(person(), change)
        assert (made[..., 3] == person()[..., 3]).all()
        return made[made[..., 3] > 0][:, :3] / 255

    assert np.abs(after(replace(NOTHING, brightness=0.7)) - 0.7 * before).max() < 0.005
    grey = before @ [0.299, 0.587, 0.114]
    contrast = after(replace(NOTHING, contrast=0.6))
    assert np.abs(contrast - (grey.mean() + 0.6 * (before - grey.mean()))).max() < 0.01
    saturation = after(replace(NOTHING, saturation=0.5))
    assert np.abs(saturation - (0.5 * before + 0.5 * grey[:, None])).max() < 0.005
    assert np.abs(after(replace(NOTHING, is_grey=True)) - grey[:, None]).max() < 0.005


def test_changes_come_from_the_generator_alone() -> None:
    strong = Augment(0.3, 20, 0.05, 0.3, 0.03, 0.5)
    made = [augmented(person(), strong, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert (made[0] == made[1]).all() and (made[0] != made[2]).any()
    one, other = (draw(each, np.random.default_rng(7)) for each in (strong, replace(strong, blur=0.0)))
    assert (one.angle, one.scale, one.brightness) == (other.angle, other.scale, other.brightness)
    drawn = [draw(strong, np.random.default_rng(seed)) for seed in range(400)]
    assert 0.4 < np.mean([change.is_grey for change in drawn]) < 0.6
    assert max(c.scale for c in drawn) <= 1.3 and min(c.scale for c in drawn) >= 1 / 1.3
    assert abs(np.mean([np.log(c.scale) for c in drawn])) < 0.02


def test_nothing_here_needs_torchvision() -> None:
    changed(person(), replace(NOTHING, angle=3.0, blur=0.02, contrast=0.5))
    assert "kornia" in sys.modules and "torchvision" not in sys.modules


def test_limits_are_named() -> None:
    with pytest.raises(UserError, match=r"data\.augment\.blur=0\.5: must be >= 0 and <= 0\.2"):
        Augment(blur=0.5)


def test_somebody_who_is_not_there_stays_away() -> None:
    nobody = np.zeros((SIDE, SIDE, 4), np.uint8)
    assert not augmented(nobody, Augment(0.3, 20, 0.05, 0.3, 0.03, 0.5), np.random.default_rng(0)).any()
