"""From pictures to what the networks take: squares, references, masks at latent resolution.

Axes: H W pixels or latents, S side of a square, C channels, 3 RGB, 4 RGB and mask. Images are uint8 unless
named float.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from PIL import Image

from fdlab.errors import unknown

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Per-channel normalisation of CLIP's image encoders (openai/CLIP, preprocessor)."""

Background = Literal["noise", "grey", "white"]
BACKGROUNDS: tuple[str, ...] = ("noise", "grey", "white")


def square_window(height: int, width: int, people_HW: np.ndarray | None = None) -> tuple[int, int, int]:
    """Left, top and side of the largest square, moved as near to the people's centre as the picture
    allows."""
    side = min(height, width)
    centre_x, centre_y = width / 2, height / 2
    if people_HW is not None and people_HW.any():
        ys, xs = np.nonzero(people_HW)
        centre_x, centre_y = (xs.min() + xs.max() + 1) / 2, (ys.min() + ys.max() + 1) / 2
    left = int(np.clip(round(centre_x - side / 2), 0, width - side))
    top = int(np.clip(round(centre_y - side / 2), 0, height - side))
    return left, top, side


def resize(image_HWC: np.ndarray, size: int) -> np.ndarray:
    """Resize a square image (1, 3 or 4 channels, or none) to `size`, antialiased (Pillow's bicubic)."""
    if image_HWC.shape[0] == size and image_HWC.shape[1] == size:
        return image_HWC
    return np.asarray(Image.fromarray(image_HWC).resize((size, size), Image.Resampling.BICUBIC))


def resize_labels(segments_HW: np.ndarray, size: int) -> np.ndarray:
    """Resize a square label map by taking the nearest label."""
    rows = np.minimum(
        ((np.arange(size) + 0.5) * segments_HW.shape[0] / size).astype(int), segments_HW.shape[0] - 1
    )
    return segments_HW[np.ix_(rows, rows)]


def square(image_HW3: np.ndarray, segments_HW: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Crop to a square that holds the people as well as it can and resize picture and label map to `size`."""
    height, width = segments_HW.shape
    left, top, side = square_window(height, width, segments_HW > 0)
    window = (slice(top, top + side), slice(left, left + side))
    return resize(image_HW3[window], size), resize_labels(segments_HW[window], size)


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

    `noise` is uniform noise per pixel, as FastComposer trains with; `grey` is the encoder's mean colour.
    Raises UserError for another background.
    """
    if background not in BACKGROUNDS:
        raise unknown("background", background, BACKGROUNDS)
    alpha_SS1 = rgba_SS4[..., 3:].astype(np.float32) / 255
    if background == "noise":
        behind_SS3 = rng.integers(0, 256, rgba_SS4[..., :3].shape, np.uint8).astype(np.float32) / 255
    else:
        colour = CLIP_MEAN if background == "grey" else (1.0, 1.0, 1.0)
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
        left, top, side = square_window(*image_HW3.shape[:2])
        window = (slice(top, top + side), slice(left, left + side))
        image_HW3, mask_HW = image_HW3[window], mask_HW[window]
    return composite(cut_rgba(image_HW3, mask_HW, size), background, rng)


def normalise(image_C: torch.Tensor) -> torch.Tensor:
    """[0, 1] to the image encoder's range; the channel axis is the third from the end."""
    mean, std = image_C.new_tensor(CLIP_MEAN), image_C.new_tensor(CLIP_STD)
    return (image_C - mean[:, None, None]) / std[:, None, None]


def to_model(image_HW3: np.ndarray) -> torch.Tensor:
    """uint8 HW3 (or BHW3) to float 3HW (B3HW) in [-1, 1], as the autoencoder takes it."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(image_HW3, -1, -3))).float() / 127.5 - 1


def latent_mask(mask_HW: np.ndarray, height: int, width: int) -> np.ndarray:
    """Area-pool a mask to the latent grid and threshold at one half (uint8 0/1); never empty if `mask_HW` is
    not.

    A person smaller than half a latent keeps the latent with most of it.
    """
    pooled_HW = torch.nn.functional.adaptive_avg_pool2d(
        torch.from_numpy(np.asarray(mask_HW, np.float32))[None, None], (height, width)
    )[0, 0].numpy()
    mask = pooled_HW > 0.5
    if not mask.any() and pooled_HW.any():
        mask = pooled_HW == pooled_HW.max()
    return mask.astype(np.uint8)
