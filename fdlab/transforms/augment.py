"""References changed at random, so that a model learns who somebody is and not how one photo looks.

Everything is drawn from a generator that is handed in; kornia computes, on the cut-out and its alpha at once.

Axes: R side of a reference, G side of the elastic grid, 3 RGB, 4 RGB and alpha, 1 a batch of one.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from fdlab.errors import UserError

GRID = 5
"""Points a side of the grid whose shifts an elastic change is drawn by."""
TRANSPARENT = 0.5 / 255
"""Alpha up to which a pixel has no colour of its own: it is rounded to none."""


@dataclass(frozen=True)
class Augment:
    """How much a reference may change; 0 leaves a property as it is."""

    zoom: float = 0.0
    """Largest change of size: from 1 / (1 + zoom) to 1 + zoom times as large."""
    rotate: float = 0.0
    """Largest angle in degrees, either way."""
    elastic: float = 0.0
    """Largest shift of a point, as a share of the side."""
    jitter: float = 0.0
    """Largest change of brightness, contrast and saturation: from 1 - jitter to 1 + jitter times each."""
    blur: float = 0.0
    """Largest standard deviation of a Gaussian blur, as a share of the side."""
    grey: float = 0.0
    """How often all colour goes."""

    def __post_init__(self) -> None:
        tops = {"jitter": 1.0, "grey": 1.0, "rotate": 180.0, "elastic": 0.2, "blur": 0.2, "zoom": 4.0}
        for name, top in tops.items():
            if not 0 <= getattr(self, name) <= top:
                raise UserError(f"data.augment.{name}={getattr(self, name):g}: must be >= 0 and <= {top:g}.")

    @property
    def changes(self) -> bool:
        """Whether anything is changed at all."""
        return any(getattr(self, field.name) > 0 for field in fields(self))


@dataclass(frozen=True)
class Change:
    """What was drawn for one reference."""

    scale: float
    angle: float
    """Degrees, counter-clockwise as the picture is seen."""
    shift_2GG: np.ndarray
    """Of grid points, x and y, as shares of the side."""
    brightness: float
    contrast: float
    saturation: float
    blur: float
    """Standard deviation, as a share of the side."""
    is_grey: bool


def draw(augment: Augment, rng: np.random.Generator) -> Change:
    """Draw a change; as many numbers are drawn whatever is asked for."""
    zoom, angle, brightness, contrast, saturation = rng.uniform(-1, 1, 5)
    blur, grey = rng.random(2)
    return Change(
        scale=float((1 + augment.zoom) ** zoom),
        angle=float(augment.rotate * angle),
        shift_2GG=augment.elastic * rng.uniform(-1, 1, (2, GRID, GRID)),
        brightness=float(1 + augment.jitter * brightness),
        contrast=float(1 + augment.jitter * contrast),
        saturation=float(1 + augment.jitter * saturation),
        blur=float(augment.blur * blur),
        is_grey=bool(grey < augment.grey),
    )


def augmented(rgba_RR4: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
    """A cut-out (uint8 RR4, alpha 0 around the person) changed at random, of the same size."""
    return changed(rgba_RR4, draw(augment, rng))


def changed(rgba_RR4: np.ndarray, change: Change) -> np.ndarray:
    """A cut-out changed as drawn: size, angle and shape about its middle; blur; then the colours of the
    person alone."""
    rgba_14RR = torch.from_numpy(np.array(rgba_RR4)).movedim(-1, 0)[None].float() / 255
    # Filtered weighted by alpha, so that no colour of the background bleeds in.
    weighted_14RR = torch.cat([rgba_14RR[:, :3] * rgba_14RR[:, 3:], rgba_14RR[:, 3:]], 1)
    weighted_14RR = _blurred(_moved(weighted_14RR, change), change.blur)
    alpha_11RR = weighted_14RR[:, 3:]
    is_person_11RR = alpha_11RR > TRANSPARENT
    colour_13RR = (weighted_14RR[:, :3] / alpha_11RR.clamp(min=TRANSPARENT)).clamp(0, 1)
    # A contrast is about the picture's mean: the person's, with that colour where nobody is.
    mean_1311 = (colour_13RR * is_person_11RR).sum((2, 3), keepdim=True) / is_person_11RR.sum().clamp(min=1)
    colour_13RR = _coloured(torch.where(is_person_11RR, colour_13RR, mean_1311), change) * is_person_11RR
    made_14RR = torch.cat([colour_13RR, alpha_11RR], 1)
    return (made_14RR[0].movedim(0, -1) * 255).round().clamp(0, 255).byte().numpy()


def _moved(image_14RR: Tensor, change: Change) -> Tensor:
    """Scaled, turned and bent about the middle, sampled once, nothing beyond the edges."""
    from kornia.geometry.transform import get_affine_matrix2d, remap

    side = image_14RR.shape[-1]
    is_bent = bool(change.shift_2GG.any())
    if change.scale == 1 and change.angle == 0 and not is_bent:
        return image_14RR
    middle_12 = torch.full((1, 2), (side - 1) / 2)
    # Where each pixel of the result comes from: the matrix's inverse.
    there_33 = get_affine_matrix2d(
        torch.zeros(1, 2), middle_12, torch.full((1, 2), change.scale), torch.tensor([-change.angle])
    )[0]
    here_33 = torch.linalg.inv(there_33)
    y_RR, x_RR = torch.meshgrid(torch.arange(side).float(), torch.arange(side).float(), indexing="ij")
    from_2RR = torch.einsum("ij,jyx->iyx", here_33[:2], torch.stack([x_RR, y_RR, torch.ones_like(x_RR)]))
    if is_bent:
        shift_12GG = torch.from_numpy(change.shift_2GG).float()[None] * side
        from_2RR = (
            from_2RR
            + torch.nn.functional.interpolate(shift_12GG, (side, side), mode="bilinear", align_corners=True)[
                0
            ]
        )
    return remap(image_14RR, from_2RR[:1], from_2RR[1:], align_corners=True)


def _blurred(image_14RR: Tensor, blur: float) -> Tensor:
    from kornia.filters import gaussian_blur2d

    side = image_14RR.shape[-1]
    sigma = blur * side
    # Below a fifth of a pixel a Gaussian's neighbours weigh less than a level of 255.
    if sigma < 0.2:
        return image_14RR
    kernel = min(2 * int(np.ceil(3 * sigma)) + 1, 2 * ((side - 1) // 2) + 1)
    return gaussian_blur2d(image_14RR, kernel, torch.full((1, 2), sigma), "constant")


def _coloured(image_13RR: Tensor, change: Change) -> Tensor:
    from kornia.color import rgb_to_grayscale
    from kornia.enhance import (
        adjust_brightness_accumulative,
        adjust_contrast_with_mean_subtraction,
        adjust_saturation_with_gray_subtraction,
    )

    if change.brightness != 1:
        image_13RR = adjust_brightness_accumulative(image_13RR, change.brightness)
    if change.contrast != 1:
        image_13RR = adjust_contrast_with_mean_subtraction(image_13RR, change.contrast)
    if change.saturation != 1:
        image_13RR = adjust_saturation_with_gray_subtraction(image_13RR, change.saturation)
    return rgb_to_grayscale(image_13RR).expand_as(image_13RR) if change.is_grey else image_13RR
