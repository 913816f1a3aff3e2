"""Smooth random fields, the texture of everything that is not a person.

Axes: H W pixels.
"""

from __future__ import annotations

import numpy as np
from PIL import Image


def field(rng: np.random.Generator, size: int, cells: float, stretch: float = 1.0) -> np.ndarray:
    """One octave, (size, size), about [0, 1]: random numbers on a grid of `cells` across, bicubic between."""
    rows, columns = max(2, round(cells * stretch)) + 1, max(2, round(cells)) + 1
    grid = Image.fromarray(rng.random((rows, columns), dtype=np.float32))
    return np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC))


def fractal(
    rng: np.random.Generator, size: int, cells: float, octaves: int = 4, stretch: float = 1.0
) -> np.ndarray:
    """Octaves of halving strength and doubling frequency; mean about 0.5, (size, size)."""
    total, weight = np.zeros((size, size), np.float32), 0.0
    for k in range(octaves):
        total += field(rng, size, cells * 2**k, stretch) * 0.5**k
        weight += 0.5**k
    return total / weight


def ridge(rng: np.random.Generator, size: int, cells: float, octaves: int = 4) -> np.ndarray:
    """A line of hills: heights in about [0, 1], (size,)."""
    x, line, weight = np.linspace(0, 1, size), np.zeros(size), 0.0
    for k in range(octaves):
        n = max(2, round(cells * 2**k)) + 1
        line += np.interp(x, np.linspace(0, 1, n), rng.random(n)) * 0.5**k
        weight += 0.5**k
    return line / weight
