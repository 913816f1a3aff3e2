"""What lies behind the people: twelve kinds of place, varied by a generator, each with its light.

A scene is drawn in display colours, (H, W, 3) in [0, 1]; the places themselves are in `backdrops`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from fdlab.people import backdrops
from fdlab.people.camera import Light

RNG = np.random.Generator
DAY = Light((-0.5, 0.7, 0.8), (1.25, 1.20, 1.10), (0.34, 0.37, 0.44), (0.17, 0.15, 0.13), (0.6, 0.65, 0.7))


@dataclass(frozen=True)
class Scene:
    """A place, the hour and the light there."""

    kind: str
    hour: str
    """day | sunset; sunset only where SCENES says outdoors."""
    picture_HW3: np.ndarray
    light: Light


SCENES: dict[str, tuple[Callable[[RNG, int], np.ndarray], str, bool]] = {
    "beach": (backdrops.beach, "on a beach", True),
    "snow": (backdrops.snow, "in the snow", False),
    "forest": (backdrops.forest, "in a forest", True),
    "city": (backdrops.city, "on a city street", True),
    "night": (backdrops.night, "in a city at night", False),
    "desert": (backdrops.desert, "in a desert", True),
    "library": (backdrops.library, "in a library", False),
    "mountains": (backdrops.mountains, "in the mountains", True),
    "garden": (backdrops.garden, "in a flower garden", False),
    "space": (backdrops.space, "in outer space", False),
    "kitchen": (backdrops.kitchen, "in a kitchen", False),
    "studio": (backdrops.studio, "in a studio", False),
}
"""Kind: how it is drawn, what a caption says, and whether the sun can set there."""
_LIGHTS = {
    "snow": Light(
        (-0.3, 0.6, 0.8), (1.0, 1.05, 1.15), (0.48, 0.52, 0.60), (0.40, 0.42, 0.46), (0.7, 0.75, 0.8)
    ),
    "forest": Light(
        (0.3, 0.9, 0.6), (1.20, 1.20, 1.00), (0.34, 0.40, 0.30), (0.12, 0.15, 0.08), (0.5, 0.6, 0.3)
    ),
    "night": Light(
        (0.7, 0.35, 0.7), (1.15, 0.90, 0.62), (0.20, 0.22, 0.36), (0.10, 0.08, 0.10), (0.3, 0.4, 0.9)
    ),
    "desert": Light(
        (0.4, 0.8, 0.6), (1.40, 1.28, 1.05), (0.32, 0.34, 0.38), (0.28, 0.20, 0.12), (0.7, 0.6, 0.4)
    ),
    "library": Light(
        (-0.5, 0.6, 0.7), (1.15, 0.98, 0.75), (0.30, 0.26, 0.22), (0.16, 0.12, 0.09), (0.4, 0.3, 0.2)
    ),
    "space": Light(
        (-0.8, 0.3, 0.6), (1.35, 1.35, 1.45), (0.14, 0.14, 0.22), (0.08, 0.08, 0.14), (0.5, 0.5, 0.9)
    ),
    "kitchen": Light(
        (0.2, 0.8, 0.8), (1.10, 1.06, 0.98), (0.40, 0.40, 0.40), (0.22, 0.20, 0.18), (0.5, 0.5, 0.5)
    ),
}


def draw(rng: RNG, kind: str, hour: str, size: int) -> Scene:
    """Draw a scene of one kind; `hour` sunset reddens what lies outdoors."""
    function, _, outdoors = SCENES[kind]
    picture = np.clip(function(rng, size), 0, 1)
    light = _LIGHTS.get(kind, DAY)
    d = np.array(light.direction) * (rng.choice([-1, 1]), 1, 1) + rng.normal(0, 0.15, 3)
    key, sky = np.array(light.key) * rng.uniform(0.85, 1.15), np.array(light.sky)
    if hour == "sunset" and outdoors:
        _, y = backdrops.grid(size)
        glow = backdrops.mix(backdrops.rgb(0.55, 0.28, 0.42), backdrops.rgb(1.0, 0.60, 0.28), y * 1.5)
        reddened = picture * 0.55 * backdrops.rgb(1.15, 0.85, 0.70)
        picture = np.clip(reddened + 0.42 * glow * (1 - 0.5 * y)[..., None], 0, 1)
        key, sky, d[1] = key * (1.25, 0.80, 0.50), sky * (0.95, 0.75, 0.80), d[1] * 0.5
    blur = ImageFilter.GaussianBlur(size / 128 * rng.uniform(0.2, 0.8))
    picture = np.asarray(Image.fromarray((picture * 255).astype(np.uint8)).filter(blur), np.float32) / 255
    return Scene(kind, hour, picture, Light(tuple(d), tuple(key), tuple(sky), light.ground, light.rim))
