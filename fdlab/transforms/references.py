"""References: a person cut out of a picture and laid on a background.

Axes: H W pixels, S side of a square, C channels, 3 RGB, 4 RGB and alpha. Images are uint8 unless named float.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch

from fdlab.errors import unknown
from fdlab.transforms.framing import resize, window
from fdlab.transforms.inputs import CLIP_MEAN, normalise

Background = Literal["noise", "colour", "grey", "white"]
BACKGROUNDS: tuple[str, ...] = ("noise", "colour", "grey", "white")
DRAWN: tuple[str, ...] = ("noise", "colour")
"""Those that are others each time."""


def cut_rgba(image_HW3: np.ndarray, mask_HW: np.ndarray, size: int) -> np.ndarray:
    """Cut a person out by its mask: centred in a square of `size`, alpha 0 elsewhere (uint8 SS4).

    The square's side is the longer side of the mask's box; colours are filtered weighted by alpha, so that no
    background bleeds in.
    """
    mask_HW = np.asarray(mask_HW) > 0
    ys, xs = np.nonzero(mask_HW)
    top, bottom, left, right = ys.min(), ys.max() + 1, xs.min(), xs.max() + 1
    side = max(bottom - top, right - left)
    canvas_SS4 = np.zeros((side, side, 4), np.uint8)
    y, x = (side - (bottom - top)) // 2, (side - (right - left)) // 2
    inside = (slice(y, y + bottom - top), slice(x, x + right - left))
    person_HW = mask_HW[top:bottom, left:right]
    canvas_SS4[*inside, :3] = image_HW3[top:bottom, left:right] * person_HW[..., None]
    canvas_SS4[*inside, 3] = person_HW * np.uint8(255)
    # Pillow premultiplies RGBA by alpha while it resizes.
    return resize(canvas_SS4, size)


def composite(rgba_SS4: np.ndarray, background: Background, rng: np.random.Generator) -> torch.Tensor:
    """Lay a cut-out on a background, as `laid`, and normalise it for the image encoder (float CHW)."""
    image_SS3 = laid(rgba_SS4, background, rng)
    return normalise(torch.from_numpy(np.ascontiguousarray(image_SS3.transpose(2, 0, 1))))


def laid(rgba_SS4: np.ndarray, background: Background, rng: np.random.Generator) -> np.ndarray:
    """Lay a cut-out on a background (float32 SS3, 0 to 1).

    `noise` is uniform noise per pixel, as FastComposer trains with; `colour` one colour, drawn each time;
    `grey` is the encoder's mean colour.
    Raises UserError for another background.
    """
    if background not in BACKGROUNDS:
        raise unknown("background", background, BACKGROUNDS)
    alpha_SS1 = rgba_SS4[..., 3:].astype(np.float32) / 255
    if background == "noise":
        behind_SS3 = rng.integers(0, 256, rgba_SS4[..., :3].shape, np.uint8).astype(np.float32) / 255
    else:
        colour: Any = {"grey": CLIP_MEAN, "white": (1.0, 1.0, 1.0)}.get(background)
        colour = rng.random(3) if colour is None else colour
        behind_SS3 = np.broadcast_to(np.asarray(colour, np.float32), rgba_SS4[..., :3].shape)
    image_SS3: np.ndarray = rgba_SS4[..., :3].astype(np.float32) / 255 * alpha_SS1 + behind_SS3 * (
        1 - alpha_SS1
    )
    return image_SS3


def cut_out(
    image_HW3: np.ndarray,
    mask_HW: np.ndarray | None,
    size: int,
    background: Background,
    rng: np.random.Generator,
) -> torch.Tensor:
    """Make a reference for the image encoder: the person alone on noise or grey, normalised (float CHW).

    `mask_HW` None takes the whole picture as it is (a photo without a mask), cut to a square.
    """
    if mask_HW is None:
        mask_HW = np.ones(image_HW3.shape[:2], bool)
        shown = window(np.zeros(image_HW3.shape[:2], bool))
        image_HW3, mask_HW = image_HW3[shown], mask_HW[shown]
    return composite(cut_rgba(image_HW3, mask_HW, size), background, rng)
