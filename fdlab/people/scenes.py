"""What lies behind the people: twelve kinds of place, varied by a generator, each with its light.

A scene is drawn in display colours, (H, W, 3) in [0, 1]; x runs to the right and y downwards, both from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from fdlab.people.camera import Light
from fdlab.people.noise import field, fractal, ridge

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


def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    line = (np.arange(size) + 0.5) / size
    return np.broadcast_to(line[None], (size, size)), np.broadcast_to(line[:, None], (size, size))


def _rgb(*color: float) -> np.ndarray:
    return np.array(color, np.float32)


def _mix(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    return a + (b - a) * np.clip(t, 0, 1)[..., None]


def _sky(rng: RNG, size: int, top: np.ndarray, low: np.ndarray, clouds: float = 0.6) -> np.ndarray:
    _, y = _grid(size)
    picture = _mix(top, low, y * 1.6)
    cover = np.clip((fractal(rng, size, 3, 4, 2.2) - 0.5) * 5 * clouds, 0, 1) * np.clip(1.3 - y * 1.6, 0, 1)
    return _mix(picture, _rgb(0.97, 0.97, 0.98), cover)


def _blue_sky(rng: RNG, size: int) -> np.ndarray:
    return _sky(rng, size, _rgb(0.22, 0.47, 0.82) * rng.uniform(0.85, 1.1), _rgb(0.72, 0.85, 0.95), rng.uniform(0.2, 1))


def beach(rng: RNG, size: int) -> np.ndarray:
    x, y = _grid(size)
    sea, sand = rng.uniform(0.36, 0.48), rng.uniform(0.62, 0.74)
    picture = _blue_sky(rng, size)
    water = _mix(_rgb(0.06, 0.32, 0.52), _rgb(0.25, 0.68, 0.72), (y - sea) / (sand - sea))
    water += (fractal(rng, size, 6, 3, 7)[..., None] - 0.5) * 0.25
    picture = np.where((y > sea)[..., None], water, picture)
    shore = sand + 0.03 * np.sin(x * rng.uniform(4, 9) + rng.uniform(0, 6))
    ground = _rgb(0.90, 0.80, 0.60) * (0.86 + 0.24 * fractal(rng, size, 18, 3))[..., None]
    picture = np.where((y > shore)[..., None], ground, picture)
    foam = np.exp(-(((y - shore) / 0.012) ** 2))
    picture = _mix(picture, _rgb(1, 1, 1), foam * 0.9)
    if rng.random() < 0.6:
        px, py, r = rng.choice([rng.uniform(0.05, 0.25), rng.uniform(0.75, 0.95)]), rng.uniform(0.30, 0.45), rng.uniform(0.12, 0.18)
        shade = ((x - px) ** 2 + ((y - py) * 1.5) ** 2 < r * r) & (y < py)
        stripe = np.floor((np.arctan2(y - py - 0.02, x - px)) * 5) % 2
        color = np.where(stripe[..., None] > 0, rng.permutation(_rgb(0.9, 0.25, 0.2)), _rgb(0.97, 0.95, 0.9))
        picture = np.where((np.abs(x - px) < 0.008)[..., None] & ((y > py) & (y < 0.85))[..., None], _rgb(0.5, 0.4, 0.3), picture)
        picture = np.where(shade[..., None], color, picture)
    return picture


def snow(rng: RNG, size: int) -> np.ndarray:
    x, y = _grid(size)
    picture = _mix(_rgb(0.62, 0.70, 0.80), _rgb(0.88, 0.91, 0.95), y * 1.5)
    for k in range(2):
        line = 0.30 + 0.16 * k + 0.22 * (1 - ridge(rng, size, 3))
        hill = _mix(_rgb(0.78, 0.84, 0.92), _rgb(0.97, 0.98, 1.0), (y - line[None]) * 2 + 0.3 * fractal(rng, size, 8, 2))
        picture = np.where((y > line[None])[..., None], hill, picture)
        for _ in range(rng.integers(4, 9)):
            cx, base, h = rng.random(), 0.45 + 0.2 * k + rng.uniform(-0.04, 0.1), rng.uniform(0.12, 0.30)
            t = (y - base + h) / h
            tree = (np.abs(x - cx) < 0.24 * h * t * (0.65 + 0.35 * ((t * 4) % 1))) & (t > 0) & (t < 1)
            picture = np.where(tree[..., None], np.where((((t * 4) % 1) < 0.35)[..., None], _rgb(0.93, 0.95, 0.98), _rgb(0.10, 0.25, 0.20)), picture)
    flakes = rng.random((size, size)) < 0.012
    soft = np.asarray(Image.fromarray((flakes * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.7)), np.float32) / 110
    return _mix(picture, _rgb(1, 1, 1), soft)


def forest(rng: RNG, size: int) -> np.ndarray:
    x, y = _grid(size)
    leaves = fractal(rng, size, 7, 4)
    picture = _mix(_rgb(0.06, 0.18, 0.05), _rgb(0.48, 0.68, 0.24), (leaves - 0.32) * 2.4 * (1.1 - 0.6 * y))
    picture = _mix(picture, _rgb(0.16, 0.20, 0.07), (y - 0.75) * 5 + leaves - 0.5)
    for depth in (0.35, 0.65, 1.0):
        for _ in range(rng.integers(2, 5)):
            cx, w = rng.random(), rng.uniform(0.012, 0.035) * depth * 1.4
            bark = _rgb(0.26, 0.18, 0.11) * (0.6 + 0.7 * field(rng, size, 20, 0.2))[..., None]
            bark = _mix(_rgb(0.42, 0.55, 0.32), bark, np.full((size, size), depth))
            lean = (y - 0.5) * rng.uniform(-0.06, 0.06)
            trunk = (np.abs(x - cx - lean) < w) & (y < 0.72 + 0.2 * depth)
            picture = np.where(trunk[..., None], bark, picture)
    return _mix(picture, _rgb(0.85, 0.92, 0.6), np.clip(fractal(rng, size, 10, 2) - 0.66, 0, 1) * 3 * (1 - y))


def _blocks(rng: RNG, size: int, picture: np.ndarray, night: bool) -> np.ndarray:
    x, y = _grid(size)
    for depth in (0.4, 0.7, 1.0):
        left = -0.05
        while left < 1:
            w, top = rng.uniform(0.10, 0.22), rng.uniform(0.05, 0.42) + 0.12 * (1 - depth)
            wall = rng.uniform(0.45, 0.8) * _rgb(*rng.uniform(0.8, 1.1, 3)) * (0.10 + 0.05 * depth if night else 1 - 0.25 * depth)
            body = (x > left) & (x < left + w) & (y > top)
            u, v = (x - left) / w * rng.integers(3, 6), (y - top) * rng.integers(12, 20)
            window = (u % 1 > 0.25) & (u % 1 < 0.75) & (v % 1 > 0.3) & (v % 1 < 0.8)
            lit = rng.random((64, 8))[np.clip(v.astype(int), 0, 63), np.clip(u.astype(int), 0, 7)]
            glass = np.where((lit > 0.55)[..., None], _rgb(1.0, 0.82, 0.42), _rgb(0.05, 0.06, 0.12)) if night else \
                _mix(_rgb(0.22, 0.30, 0.40), _rgb(0.65, 0.78, 0.90), lit)  # fmt: skip
            picture = np.where(body[..., None], np.where(window[..., None], glass, wall), picture)
            left += w * rng.uniform(0.9, 1.2)
    return picture


def city(rng: RNG, size: int) -> np.ndarray:
    x, y = _grid(size)
    picture = _blocks(rng, size, _blue_sky(rng, size), night=False)
    road = _rgb(0.36, 0.36, 0.38) * (0.9 + 0.2 * fractal(rng, size, 30, 2))[..., None]
    picture = np.where((y > 0.80)[..., None], road, picture)
    line = (y > 0.9) & (y < 0.92) & ((x * 5 + rng.random()) % 1 < 0.5)
    return np.where(line[..., None], _rgb(0.92, 0.9, 0.8), picture)


def night(rng: RNG, size: int) -> np.ndarray:
    x, y = _grid(size)
    picture = _mix(_rgb(0.015, 0.02, 0.08), _rgb(0.10, 0.08, 0.22), y * 1.4)
    stars = rng.random((size, size)) < 0.006
    picture = np.where((stars & (y < 0.5))[..., None], _rgb(0.9, 0.9, 1.0), picture)
    mx, my = rng.choice([rng.uniform(0.08, 0.25), rng.uniform(0.75, 0.92)]), rng.uniform(0.08, 0.2)
    picture = _mix(picture, _rgb(0.98, 0.96, 0.85), ((x - mx) ** 2 + (y - my) ** 2 < 0.05**2).astype(float))
    picture = _blocks(rng, size, picture, night=True)
    for _ in range(rng.integers(3, 9)):
        cx, cy, r = rng.random(), rng.uniform(0.6, 0.95), rng.uniform(0.015, 0.05)
        glow = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (r * r))
        picture = picture + glow[..., None] * _rgb(*rng.choice([(1, 0.7, 0.3), (1, 0.3, 0.3), (0.4, 0.8, 1)])) * 0.7
    return picture


def desert(rng: RNG, size: int) -> np.ndarray:
    x, y = _grid(size)
    picture = _sky(rng, size, _rgb(0.30, 0.58, 0.88), _rgb(0.96, 0.88, 0.72), 0.15)
    for k in range(3):
        line = 0.38 + 0.15 * k + 0.16 * (ridge(rng, size, 2, 1) - 0.5) + 0.04 * np.sin(x[0] * rng.uniform(5, 12) + rng.uniform(0, 6))
        slope = 0.5 + 0.5 * np.sin(x * rng.uniform(5, 9) + rng.uniform(0, 6) + y * 7)
        dune = _mix(_rgb(0.72, 0.44, 0.20), _rgb(0.97, 0.76, 0.42), slope)
        dune = dune * (0.94 + 0.1 * np.sin(y * 190 + 9 * field(rng, size, 5)))[..., None]
        picture = np.where((y > line[None])[..., None], dune, picture)
    if rng.random() < 0.6:
        cx, h = rng.choice([rng.uniform(0.06, 0.2), rng.uniform(0.8, 0.94)]), rng.uniform(0.25, 0.4)
        trunk = (np.abs(x - cx) < 0.022) & (y > 0.75 - h) & (y < 0.78)
        arm = (np.abs(y - 0.75 + 0.5 * h) < 0.018) & (np.abs(x - cx) < 0.08)
        hand = (np.abs(np.abs(x - cx) - 0.07) < 0.016) & (y > 0.75 - 0.8 * h) & (y < 0.77 - 0.5 * h)
        picture = np.where((trunk | arm | hand)[..., None], _rgb(0.16, 0.38, 0.16), picture)
    return picture


def library(rng: RNG, size: int) -> np.ndarray:
    x, y = _grid(size)
    shelves, wood = rng.integers(4, 6), _rgb(0.34, 0.20, 0.10) * rng.uniform(0.8, 1.3)
    picture = np.broadcast_to(wood * 0.45, (size, size, 3)).copy()
    columns = np.arange(size)
    for k in range(shelves):
        low, high = k / shelves, (k + 1) / shelves
        left = 0
        while left < size:
            w, tall = max(2, int(rng.uniform(0.015, 0.040) * size)), rng.uniform(0.62, 0.9)
            color = _rgb(*np.array([(0.55, 0.10, 0.10), (0.12, 0.22, 0.45), (0.10, 0.34, 0.18), (0.75, 0.62, 0.35),
                                    (0.35, 0.18, 0.38), (0.82, 0.78, 0.68), (0.62, 0.34, 0.12)])[rng.integers(7)])  # fmt: skip
            if rng.random() < 0.93:
                column = (columns >= left) & (columns < left + w - (w > 2))
                book = column[None] & (y > high - tall / shelves) & (y < high)
                picture = np.where(book[..., None], color * rng.uniform(0.7, 1.15), picture)
            left += w
        picture = np.where(((y > high - 0.022) & (y <= high))[..., None], wood, picture)
        picture = np.where(((y >= low) & (y < low + 0.03))[..., None], picture * 0.5, picture)
    for cx in (rng.uniform(0.1, 0.3), rng.uniform(0.65, 0.9)):
        picture = np.where((np.abs(x - cx) < 0.018)[..., None], wood * 1.1, picture)
    return picture


def mountains(rng: RNG, size: int) -> np.ndarray:
    _, y = _grid(size)
    picture = _blue_sky(rng, size)
    for k, tint in enumerate((_rgb(0.50, 0.58, 0.70), _rgb(0.36, 0.42, 0.50))):
        line = 0.06 + 0.16 * k + 0.42 * (1 - ridge(rng, size, 4, 5))
        rock = tint * (0.65 + 0.7 * fractal(rng, size, 10, 4))[..., None]
        white = (y - line[None]) < 0.10 + 0.10 * (fractal(rng, size, 12, 2) - 0.5)
        rock = np.where(white[..., None], _rgb(0.95, 0.96, 0.98) * (0.8 + 0.25 * field(rng, size, 14))[..., None], rock)
        picture = np.where((y > line[None])[..., None], rock, picture)
    meadow = 0.68 + 0.10 * (1 - ridge(rng, size, 3, 2))
    grass = _rgb(0.30, 0.50, 0.18) * (0.7 + 0.6 * fractal(rng, size, 20, 3))[..., None]
    return np.where((y > meadow[None])[..., None], grass, picture)


def garden(rng: RNG, size: int) -> np.ndarray:
    x, y = _grid(size)
    leaf = fractal(rng, size, 12, 4)
    picture = _mix(_rgb(0.10, 0.26, 0.08), _rgb(0.42, 0.66, 0.26), (leaf - 0.3) * 2)
    picture = np.where((y < 0.2)[..., None], _mix(picture, _rgb(0.70, 0.85, 0.96), np.full((size, size), 0.8)), picture)
    palette = np.array([(0.92, 0.20, 0.30), (0.98, 0.80, 0.20), (0.95, 0.50, 0.75), (0.98, 0.96, 0.95), (0.60, 0.35, 0.80)])
    palette = palette[rng.permutation(5)[:3]]
    for _ in range(rng.integers(50, 80)):
        cx, cy, r = rng.random(), rng.uniform(0.22, 1.0), rng.uniform(0.018, 0.042)
        turn, d = np.arctan2(y - cy, x - cx), np.hypot(x - cx, y - cy)
        petals = d < r * (0.75 + 0.25 * np.cos(5 * turn))
        picture = np.where(petals[..., None], palette[rng.integers(3)], picture)
        picture = np.where((d < r * 0.3)[..., None], _rgb(0.95, 0.75, 0.15), picture)
    return picture


def space(rng: RNG, size: int) -> np.ndarray:
    x, y = _grid(size)
    cloud = np.clip(fractal(rng, size, 3, 5) - 0.42, 0, 1) * 2.2
    hue = _rgb(*rng.uniform(0.1, 0.75, 3))
    picture = _rgb(0.01, 0.01, 0.03) + cloud[..., None] * hue
    stars = rng.random((size, size))
    picture = np.where((stars > 0.985)[..., None], np.clip((stars - 0.985) * 80, 0.3, 1)[..., None] * _rgb(1, 1, 1), picture)
    cx, cy, r = rng.choice([rng.uniform(0.05, 0.25), rng.uniform(0.75, 0.95)]), rng.uniform(0.1, 0.4), rng.uniform(0.10, 0.2)
    d = np.hypot(x - cx, y - cy) / r
    band = 0.7 + 0.3 * np.sin((y - cy) / r * rng.uniform(4, 9) + 2 * field(rng, size, 5))
    light = np.clip(0.25 + (cx - x - y + cy) / r * 0.6, 0.05, 1)
    planet = _rgb(*rng.uniform(0.35, 0.95, 3)) * (band * light)[..., None]
    return np.where((d < 1)[..., None], planet, picture)


def kitchen(rng: RNG, size: int) -> np.ndarray:
    x, y = _grid(size)
    n = rng.integers(6, 9)
    tile = _rgb(0.93, 0.93, 0.90) * rng.uniform(0.9, 1) * _rgb(*rng.uniform(0.92, 1.05, 3))
    grout = ((x * n) % 1 < 0.06) | ((y * n) % 1 < 0.06)
    picture = np.where(grout[..., None], tile * 0.75, tile * (0.95 + 0.06 * field(rng, size, n))[..., None])
    door = _rgb(*np.array([(0.20, 0.38, 0.42), (0.62, 0.42, 0.24), (0.75, 0.30, 0.22), (0.85, 0.85, 0.82)])[rng.integers(4)])
    m = rng.integers(3, 5)
    for low, high in ((0.0, 0.26), (0.72, 1.0)):
        inside = (y >= low) & (y < high)
        seam = ((x * m) % 1 < 0.03) | ((x * m) % 1 > 0.97)
        picture = np.where(inside[..., None], np.where(seam[..., None], door * 0.5, door), picture)
        knob = inside & (np.hypot((x * m) % 1 - 0.85, (y - (high - 0.06 if low == 0 else low + 0.07)) * m) < 0.06)
        picture = np.where(knob[..., None], _rgb(0.85, 0.85, 0.85), picture)
    picture = np.where(((y > 0.68) & (y < 0.72))[..., None], _rgb(0.30, 0.29, 0.28), picture)
    for _ in range(rng.integers(2, 5)):
        cx, w, h = rng.random(), rng.uniform(0.025, 0.05), rng.uniform(0.08, 0.16)
        jar = (np.abs(x - cx) < w) & (y < 0.68) & (y > 0.68 - h)
        picture = np.where(jar[..., None], _rgb(*rng.uniform(0.25, 0.95, 3)) * (1 - 0.5 * np.abs(x - cx) / w)[..., None], picture)
    return picture


def studio(rng: RNG, size: int) -> np.ndarray:
    x, y = _grid(size)
    low, high = rng.uniform(0.30, 0.75), rng.uniform(0.0, 0.12)
    color = low * _rgb(*(1 + rng.uniform(-high, high, 3) * 2))
    spot = np.exp(-((x - rng.uniform(0.3, 0.7)) ** 2 + (y - rng.uniform(0.2, 0.5)) ** 2) / 0.25)
    return color * (0.75 + 0.4 * spot + 0.05 * (fractal(rng, size, 4, 2) - 0.5))[..., None]


SCENES: dict[str, tuple[Callable[[RNG, int], np.ndarray], str, bool]] = {
    "beach": (beach, "on a beach", True), "snow": (snow, "in the snow", False), "forest": (forest, "in a forest", True),
    "city": (city, "on a city street", True), "night": (night, "in a city at night", False),
    "desert": (desert, "in a desert", True), "library": (library, "in a library", False),
    "mountains": (mountains, "in the mountains", True), "garden": (garden, "in a flower garden", False),
    "space": (space, "in outer space", False), "kitchen": (kitchen, "in a kitchen", False),
    "studio": (studio, "in a studio", False),
}  # fmt: skip
"""Kind: how it is drawn, what a caption says, and whether the sun can set there."""
_LIGHTS = {
    "snow": Light((-0.3, 0.6, 0.8), (1.0, 1.05, 1.15), (0.48, 0.52, 0.60), (0.40, 0.42, 0.46), (0.7, 0.75, 0.8)),
    "forest": Light((0.3, 0.9, 0.6), (1.20, 1.20, 1.00), (0.34, 0.40, 0.30), (0.12, 0.15, 0.08), (0.5, 0.6, 0.3)),
    "night": Light((0.7, 0.35, 0.7), (1.15, 0.90, 0.62), (0.20, 0.22, 0.36), (0.10, 0.08, 0.10), (0.3, 0.4, 0.9)),
    "desert": Light((0.4, 0.8, 0.6), (1.40, 1.28, 1.05), (0.32, 0.34, 0.38), (0.28, 0.20, 0.12), (0.7, 0.6, 0.4)),
    "library": Light((-0.5, 0.6, 0.7), (1.15, 0.98, 0.75), (0.30, 0.26, 0.22), (0.16, 0.12, 0.09), (0.4, 0.3, 0.2)),
    "space": Light((-0.8, 0.3, 0.6), (1.35, 1.35, 1.45), (0.14, 0.14, 0.22), (0.08, 0.08, 0.14), (0.5, 0.5, 0.9)),
    "kitchen": Light((0.2, 0.8, 0.8), (1.10, 1.06, 0.98), (0.40, 0.40, 0.40), (0.22, 0.20, 0.18), (0.5, 0.5, 0.5)),
}


def draw(rng: RNG, kind: str, hour: str, size: int) -> Scene:
    """Draw a scene of one kind; `hour` sunset reddens what lies outdoors."""
    function, _, outdoors = SCENES[kind]
    picture = np.clip(function(rng, size), 0, 1)
    light = _LIGHTS.get(kind, DAY)
    d = np.array(light.direction) * (rng.choice([-1, 1]), 1, 1) + rng.normal(0, 0.15, 3)
    key, sky = np.array(light.key) * rng.uniform(0.85, 1.15), np.array(light.sky)
    if hour == "sunset" and outdoors:
        _, y = _grid(size)
        glow = _mix(_rgb(0.55, 0.28, 0.42), _rgb(1.0, 0.60, 0.28), y * 1.5)
        picture = np.clip(picture * 0.55 * _rgb(1.15, 0.85, 0.70) + 0.42 * glow * (1 - 0.5 * y)[..., None], 0, 1)
        key, sky, d[1] = key * (1.25, 0.80, 0.50), sky * (0.95, 0.75, 0.80), d[1] * 0.5
    soft = Image.fromarray((picture * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(size / 128 * rng.uniform(0.2, 0.8)))
    picture = np.asarray(soft, np.float32) / 255
    return Scene(kind, hour, picture, Light(tuple(d), tuple(key), tuple(sky), light.ground, light.rim))
