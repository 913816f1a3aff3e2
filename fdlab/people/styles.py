"""How a picture is made: photograph, black-and-white photograph, pencil, watercolour, pop art.

Pictures are display colours, (H, W, 3) float in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter, median_filter

from fdlab.people.noise import field, fractal

RNG = np.random.Generator
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def photograph(rng: RNG, picture: np.ndarray) -> np.ndarray:
    """Fine grain."""
    return picture + rng.normal(0, 0.006, picture.shape)


def black_and_white(rng: RNG, picture: np.ndarray) -> np.ndarray:
    """Grey tones with more contrast and grain."""
    grey = picture @ LUMA
    grey = grey + 0.35 * (grey - 0.45) * (1 - np.abs(2 * grey - 1)) + rng.normal(0, 0.012, grey.shape)
    return np.repeat(grey[..., None], 3, 2)


def pencil(rng: RNG, picture: np.ndarray) -> np.ndarray:
    """Lines where tones change, hatching where it is dark, on paper."""
    size = len(picture)
    grey = np.clip(picture @ LUMA, 0.02, 1)
    line = np.clip(grey / np.maximum(gaussian_filter(grey, size / 50), 1e-3), 0, 1.1) / 1.1
    y, x = np.mgrid[:size, :size]
    hatch = 0.5 + 0.5 * np.sin((x + y) * 1.9 + 4 * field(rng, size, 6))
    tone = 0.52 + 0.48 * np.clip(grey * 1.35, 0, 1) - 0.16 * hatch * np.clip(0.75 - grey, 0, 1)
    paper = 0.97 + 0.05 * (fractal(rng, size, 40, 2) - 0.5)
    return (np.clip(line**2.2 * tone * 1.06, 0, 1) * paper)[..., None] * np.array([1.0, 0.985, 0.95])


def watercolor(rng: RNG, picture: np.ndarray) -> np.ndarray:
    """Flat washes with dark rims, pale and saturated, on rough paper."""
    size = len(picture)
    flat = 0.6 * np.stack([median_filter(picture[..., k], size=3) for k in range(3)], 2) + 0.4 * picture
    grey = (flat @ LUMA)[..., None]
    flat = grey + (flat - grey) * 1.5
    flat = flat * 0.84 + 0.16
    edge = np.abs(grey - gaussian_filter(grey, (1.2, 1.2, 0)))
    wash = 1 + 0.28 * (fractal(rng, size, 4, 4) - 0.5)[..., None]
    paper = 1 + 0.10 * (fractal(rng, size, 50, 2) - 0.5)[..., None]
    return (flat - 2.2 * edge) * wash * paper


def pop_art(rng: RNG, picture: np.ndarray) -> np.ndarray:
    """Few strong colours and black outlines."""
    grey = (picture @ LUMA)[..., None]
    strong = np.clip(grey + (picture - grey) * 2.2, 0, 1)
    levels = 4
    stepped = np.floor(strong * levels * 0.999 + 0.5) / levels
    dark = np.clip((gaussian_filter(grey, (1.4, 1.4, 0)) - grey - 0.02) * 9, 0, 1)
    return (0.75 * stepped + 0.25 * strong) * (1 - dark)


STYLES: dict[str, tuple[Callable[[RNG, np.ndarray], np.ndarray], tuple[str, ...]]] = {
    "photograph": (photograph, ("", "a photo of ")),
    "black-and-white photograph": (black_and_white, ("a black and white photo of ",)),
    "pencil drawing": (pencil, ("a pencil drawing of ",)),
    "watercolor": (watercolor, ("a watercolor painting of ",)),
    "pop art": (pop_art, ("a pop art picture of ",)),
}
"""Style: how it is made, and how a caption begins."""
