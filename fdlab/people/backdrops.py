"""The twelve kinds of place, each drawn by one function of a generator and a size.

Pictures are display colours, (H, W, 3), clipped to [0, 1] by `scenes.draw`; x runs to the right and y
downwards, both from 0 to 1.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from fdlab.people.noise import field, fractal, ridge

RNG = np.random.Generator
BINDINGS = (
    (0.55, 0.10, 0.10),
    (0.12, 0.22, 0.45),
    (0.10, 0.34, 0.18),
    (0.75, 0.62, 0.35),
    (0.35, 0.18, 0.38),
    (0.82, 0.78, 0.68),
    (0.62, 0.34, 0.12),
)
PETALS = (
    (0.92, 0.20, 0.30),
    (0.98, 0.80, 0.20),
    (0.95, 0.50, 0.75),
    (0.98, 0.96, 0.95),
    (0.60, 0.35, 0.80),
)
DOORS = ((0.20, 0.38, 0.42), (0.62, 0.42, 0.24), (0.75, 0.30, 0.22), (0.85, 0.85, 0.82))


def grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of every pixel's centre, 0 to 1, each (size, size)."""
    line = (np.arange(size) + 0.5) / size
    return np.broadcast_to(line[None], (size, size)), np.broadcast_to(line[:, None], (size, size))


def rgb(*color: float) -> np.ndarray:
    """One colour, (3,) float32."""
    return np.array(color, np.float32)


def mix(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Blend colours: `a` where t is 0 or less, `b` where it is 1 or more."""
    return a + (b - a) * np.clip(t, 0, 1)[..., None]


def _sky(rng: RNG, size: int, top: np.ndarray, low: np.ndarray, clouds: float = 0.6) -> np.ndarray:
    _, y = grid(size)
    picture = mix(top, low, y * 1.6)
    cover = np.clip((fractal(rng, size, 3, 4, 2.2) - 0.5) * 5 * clouds, 0, 1) * np.clip(1.3 - y * 1.6, 0, 1)
    return mix(picture, rgb(0.97, 0.97, 0.98), cover)


def _blue_sky(rng: RNG, size: int) -> np.ndarray:
    top = rgb(0.22, 0.47, 0.82) * rng.uniform(0.85, 1.1)
    return _sky(rng, size, top, rgb(0.72, 0.85, 0.95), clouds=rng.uniform(0.2, 1))


def beach(rng: RNG, size: int) -> np.ndarray:
    """Sea and sand under a blue sky, often with a parasol."""
    x, y = grid(size)
    sea, sand = rng.uniform(0.36, 0.48), rng.uniform(0.62, 0.74)
    picture = _blue_sky(rng, size)
    water = mix(rgb(0.06, 0.32, 0.52), rgb(0.25, 0.68, 0.72), (y - sea) / (sand - sea))
    water += (fractal(rng, size, 6, 3, 7)[..., None] - 0.5) * 0.25
    picture = np.where((y > sea)[..., None], water, picture)
    shore = sand + 0.03 * np.sin(x * rng.uniform(4, 9) + rng.uniform(0, 6))
    ground = rgb(0.90, 0.80, 0.60) * (0.86 + 0.24 * fractal(rng, size, 18, 3))[..., None]
    picture = np.where((y > shore)[..., None], ground, picture)
    foam = np.exp(-(((y - shore) / 0.012) ** 2))
    picture = mix(picture, rgb(1, 1, 1), foam * 0.9)
    if rng.random() < 0.6:
        px = rng.choice([rng.uniform(0.05, 0.25), rng.uniform(0.75, 0.95)])
        py, r = rng.uniform(0.30, 0.45), rng.uniform(0.12, 0.18)
        shade = ((x - px) ** 2 + ((y - py) * 1.5) ** 2 < r * r) & (y < py)
        stripe = np.floor((np.arctan2(y - py - 0.02, x - px)) * 5) % 2
        color = np.where(stripe[..., None] > 0, rng.permutation(rgb(0.9, 0.25, 0.2)), rgb(0.97, 0.95, 0.9))
        pole = (np.abs(x - px) < 0.008) & (y > py) & (y < 0.85)
        picture = np.where(pole[..., None], rgb(0.5, 0.4, 0.3), picture)
        picture = np.where(shade[..., None], color, picture)
    return picture


def snow(rng: RNG, size: int) -> np.ndarray:
    """Snowy hills with firs, and flakes in the air."""
    x, y = grid(size)
    picture = mix(rgb(0.62, 0.70, 0.80), rgb(0.88, 0.91, 0.95), y * 1.5)
    for k in range(2):
        line = 0.30 + 0.16 * k + 0.22 * (1 - ridge(rng, size, 3))
        depth = (y - line[None]) * 2 + 0.3 * fractal(rng, size, 8, 2)
        hill = mix(rgb(0.78, 0.84, 0.92), rgb(0.97, 0.98, 1.0), depth)
        picture = np.where((y > line[None])[..., None], hill, picture)
        for _ in range(rng.integers(4, 9)):
            cx, base, h = rng.random(), 0.45 + 0.2 * k + rng.uniform(-0.04, 0.1), rng.uniform(0.12, 0.30)
            t = (y - base + h) / h
            tier = (t * 4) % 1
            tree = (np.abs(x - cx) < 0.24 * h * t * (0.65 + 0.35 * tier)) & (t > 0) & (t < 1)
            needles = np.where((tier < 0.35)[..., None], rgb(0.93, 0.95, 0.98), rgb(0.10, 0.25, 0.20))
            picture = np.where(tree[..., None], needles, picture)
    flakes = rng.random((size, size)) < 0.012
    blurred = Image.fromarray((flakes * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.7))
    return mix(picture, rgb(1, 1, 1), np.asarray(blurred, np.float32) / 110)


def forest(rng: RNG, size: int) -> np.ndarray:
    """Trunks before leaves."""
    x, y = grid(size)
    leaves = fractal(rng, size, 7, 4)
    picture = mix(rgb(0.06, 0.18, 0.05), rgb(0.48, 0.68, 0.24), (leaves - 0.32) * 2.4 * (1.1 - 0.6 * y))
    picture = mix(picture, rgb(0.16, 0.20, 0.07), (y - 0.75) * 5 + leaves - 0.5)
    for depth in (0.35, 0.65, 1.0):
        for _ in range(rng.integers(2, 5)):
            cx, w = rng.random(), rng.uniform(0.012, 0.035) * depth * 1.4
            bark = rgb(0.26, 0.18, 0.11) * (0.6 + 0.7 * field(rng, size, 20, 0.2))[..., None]
            bark = mix(rgb(0.42, 0.55, 0.32), bark, np.full((size, size), depth))
            lean = (y - 0.5) * rng.uniform(-0.06, 0.06)
            trunk = (np.abs(x - cx - lean) < w) & (y < 0.72 + 0.2 * depth)
            picture = np.where(trunk[..., None], bark, picture)
    gleam = np.clip(fractal(rng, size, 10, 2) - 0.66, 0, 1) * 3 * (1 - y)
    return mix(picture, rgb(0.85, 0.92, 0.6), gleam)


def _blocks(rng: RNG, size: int, picture: np.ndarray, night: bool) -> np.ndarray:
    x, y = grid(size)
    for depth in (0.4, 0.7, 1.0):
        left = -0.05
        while left < 1:
            w, top = rng.uniform(0.10, 0.22), rng.uniform(0.05, 0.42) + 0.12 * (1 - depth)
            bright = 0.10 + 0.05 * depth if night else 1 - 0.25 * depth
            wall = rng.uniform(0.45, 0.8) * rgb(*rng.uniform(0.8, 1.1, 3)) * bright
            body = (x > left) & (x < left + w) & (y > top)
            u, v = (x - left) / w * rng.integers(3, 6), (y - top) * rng.integers(12, 20)
            window = (u % 1 > 0.25) & (u % 1 < 0.75) & (v % 1 > 0.3) & (v % 1 < 0.8)
            lit = rng.random((64, 8))[np.clip(v.astype(int), 0, 63), np.clip(u.astype(int), 0, 7)]
            if night:
                glass = np.where((lit > 0.55)[..., None], rgb(1.0, 0.82, 0.42), rgb(0.05, 0.06, 0.12))
            else:
                glass = mix(rgb(0.22, 0.30, 0.40), rgb(0.65, 0.78, 0.90), lit)
            picture = np.where(body[..., None], np.where(window[..., None], glass, wall), picture)
            left += w * rng.uniform(0.9, 1.2)
    return picture


def city(rng: RNG, size: int) -> np.ndarray:
    """Houses behind a road by day."""
    x, y = grid(size)
    picture = _blocks(rng, size, _blue_sky(rng, size), night=False)
    road = rgb(0.36, 0.36, 0.38) * (0.9 + 0.2 * fractal(rng, size, 30, 2))[..., None]
    picture = np.where((y > 0.80)[..., None], road, picture)
    line = (y > 0.9) & (y < 0.92) & ((x * 5 + rng.random()) % 1 < 0.5)
    return np.where(line[..., None], rgb(0.92, 0.9, 0.8), picture)


def night(rng: RNG, size: int) -> np.ndarray:
    """Houses with lit windows, a moon and lamps."""
    x, y = grid(size)
    picture = mix(rgb(0.015, 0.02, 0.08), rgb(0.10, 0.08, 0.22), y * 1.4)
    stars = rng.random((size, size)) < 0.006
    picture = np.where((stars & (y < 0.5))[..., None], rgb(0.9, 0.9, 1.0), picture)
    mx, my = rng.choice([rng.uniform(0.08, 0.25), rng.uniform(0.75, 0.92)]), rng.uniform(0.08, 0.2)
    moon = (x - mx) ** 2 + (y - my) ** 2 < 0.05**2
    picture = mix(picture, rgb(0.98, 0.96, 0.85), moon.astype(float))
    picture = _blocks(rng, size, picture, night=True)
    for _ in range(rng.integers(3, 9)):
        cx, cy, r = rng.random(), rng.uniform(0.6, 0.95), rng.uniform(0.015, 0.05)
        glow = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (r * r))
        lamp = rgb(*rng.choice([(1, 0.7, 0.3), (1, 0.3, 0.3), (0.4, 0.8, 1)]))
        picture = picture + glow[..., None] * lamp * 0.7
    return picture


def desert(rng: RNG, size: int) -> np.ndarray:
    """Dunes, often with a cactus."""
    x, y = grid(size)
    picture = _sky(rng, size, rgb(0.30, 0.58, 0.88), rgb(0.96, 0.88, 0.72), 0.15)
    for k in range(3):
        line = 0.38 + 0.15 * k + 0.16 * (ridge(rng, size, 2, 1) - 0.5)
        line = line + 0.04 * np.sin(x[0] * rng.uniform(5, 12) + rng.uniform(0, 6))
        slope = 0.5 + 0.5 * np.sin(x * rng.uniform(5, 9) + rng.uniform(0, 6) + y * 7)
        dune = mix(rgb(0.72, 0.44, 0.20), rgb(0.97, 0.76, 0.42), slope)
        dune = dune * (0.94 + 0.1 * np.sin(y * 190 + 9 * field(rng, size, 5)))[..., None]
        picture = np.where((y > line[None])[..., None], dune, picture)
    if rng.random() < 0.6:
        cx, h = rng.choice([rng.uniform(0.06, 0.2), rng.uniform(0.8, 0.94)]), rng.uniform(0.25, 0.4)
        trunk = (np.abs(x - cx) < 0.022) & (y > 0.75 - h) & (y < 0.78)
        arm = (np.abs(y - 0.75 + 0.5 * h) < 0.018) & (np.abs(x - cx) < 0.08)
        hand = (np.abs(np.abs(x - cx) - 0.07) < 0.016) & (y > 0.75 - 0.8 * h) & (y < 0.77 - 0.5 * h)
        picture = np.where((trunk | arm | hand)[..., None], rgb(0.16, 0.38, 0.16), picture)
    return picture


def library(rng: RNG, size: int) -> np.ndarray:
    """Shelves of books."""
    x, y = grid(size)
    shelves, wood = int(rng.integers(4, 6)), rgb(0.34, 0.20, 0.10) * rng.uniform(0.8, 1.3)
    picture = np.broadcast_to(wood * 0.45, (size, size, 3)).copy()
    columns = np.arange(size)
    for k in range(shelves):
        low, high = k / shelves, (k + 1) / shelves
        left = 0
        while left < size:
            w, tall = max(2, int(rng.uniform(0.015, 0.040) * size)), rng.uniform(0.62, 0.9)
            color = rgb(*BINDINGS[rng.integers(7)])
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
    """Two ranges with snow above a meadow."""
    _, y = grid(size)
    picture = _blue_sky(rng, size)
    for k, tint in enumerate((rgb(0.50, 0.58, 0.70), rgb(0.36, 0.42, 0.50))):
        line = 0.06 + 0.16 * k + 0.42 * (1 - ridge(rng, size, 4, 5))
        rock = tint * (0.65 + 0.7 * fractal(rng, size, 10, 4))[..., None]
        white = (y - line[None]) < 0.10 + 0.10 * (fractal(rng, size, 12, 2) - 0.5)
        cap = rgb(0.95, 0.96, 0.98) * (0.8 + 0.25 * field(rng, size, 14))[..., None]
        rock = np.where(white[..., None], cap, rock)
        picture = np.where((y > line[None])[..., None], rock, picture)
    meadow = 0.68 + 0.10 * (1 - ridge(rng, size, 3, 2))
    grass = rgb(0.30, 0.50, 0.18) * (0.7 + 0.6 * fractal(rng, size, 20, 3))[..., None]
    return np.where((y > meadow[None])[..., None], grass, picture)


def garden(rng: RNG, size: int) -> np.ndarray:
    """Flowers before a hedge."""
    x, y = grid(size)
    leaf = fractal(rng, size, 12, 4)
    picture = mix(rgb(0.10, 0.26, 0.08), rgb(0.42, 0.66, 0.26), (leaf - 0.3) * 2)
    sky = mix(picture, rgb(0.70, 0.85, 0.96), np.full((size, size), 0.8))
    picture = np.where((y < 0.2)[..., None], sky, picture)
    palette = np.array(PETALS)[rng.permutation(5)[:3]]
    for _ in range(rng.integers(50, 80)):
        cx, cy, r = rng.random(), rng.uniform(0.22, 1.0), rng.uniform(0.018, 0.042)
        turn, d = np.arctan2(y - cy, x - cx), np.hypot(x - cx, y - cy)
        petals = d < r * (0.75 + 0.25 * np.cos(5 * turn))
        picture = np.where(petals[..., None], palette[rng.integers(3)], picture)
        picture = np.where((d < r * 0.3)[..., None], rgb(0.95, 0.75, 0.15), picture)
    return picture


def space(rng: RNG, size: int) -> np.ndarray:
    """Stars, a nebula and a planet."""
    x, y = grid(size)
    cloud = np.clip(fractal(rng, size, 3, 5) - 0.42, 0, 1) * 2.2
    hue = rgb(*rng.uniform(0.1, 0.75, 3))
    picture = rgb(0.01, 0.01, 0.03) + cloud[..., None] * hue
    stars = rng.random((size, size))
    bright = np.clip((stars - 0.985) * 80, 0.3, 1)[..., None] * rgb(1, 1, 1)
    picture = np.where((stars > 0.985)[..., None], bright, picture)
    cx = rng.choice([rng.uniform(0.05, 0.25), rng.uniform(0.75, 0.95)])
    cy, r = rng.uniform(0.1, 0.4), rng.uniform(0.10, 0.2)
    d = np.hypot(x - cx, y - cy) / r
    band = 0.7 + 0.3 * np.sin((y - cy) / r * rng.uniform(4, 9) + 2 * field(rng, size, 5))
    light = np.clip(0.25 + (cx - x - y + cy) / r * 0.6, 0.05, 1)
    planet = rgb(*rng.uniform(0.35, 0.95, 3)) * (band * light)[..., None]
    return np.where((d < 1)[..., None], planet, picture)


def kitchen(rng: RNG, size: int) -> np.ndarray:
    """Tiles, cupboards and jars."""
    x, y = grid(size)
    n = int(rng.integers(6, 9))
    tile = rgb(0.93, 0.93, 0.90) * rng.uniform(0.9, 1) * rgb(*rng.uniform(0.92, 1.05, 3))
    grout = ((x * n) % 1 < 0.06) | ((y * n) % 1 < 0.06)
    picture = np.where(grout[..., None], tile * 0.75, tile * (0.95 + 0.06 * field(rng, size, n))[..., None])
    door = rgb(*DOORS[rng.integers(4)])
    m = rng.integers(3, 5)
    for low, high in ((0.0, 0.26), (0.72, 1.0)):
        inside = (y >= low) & (y < high)
        seam = ((x * m) % 1 < 0.03) | ((x * m) % 1 > 0.97)
        picture = np.where(inside[..., None], np.where(seam[..., None], door * 0.5, door), picture)
        height = high - 0.06 if low == 0 else low + 0.07
        knob = inside & (np.hypot((x * m) % 1 - 0.85, (y - height) * m) < 0.06)
        picture = np.where(knob[..., None], rgb(0.85, 0.85, 0.85), picture)
    picture = np.where(((y > 0.68) & (y < 0.72))[..., None], rgb(0.30, 0.29, 0.28), picture)
    for _ in range(rng.integers(2, 5)):
        cx, w, h = rng.random(), rng.uniform(0.025, 0.05), rng.uniform(0.08, 0.16)
        jar = (np.abs(x - cx) < w) & (y < 0.68) & (y > 0.68 - h)
        glaze = rgb(*rng.uniform(0.25, 0.95, 3)) * (1 - 0.5 * np.abs(x - cx) / w)[..., None]
        picture = np.where(jar[..., None], glaze, picture)
    return picture


def studio(rng: RNG, size: int) -> np.ndarray:
    """A lit paper backdrop."""
    x, y = grid(size)
    low, high = rng.uniform(0.30, 0.75), rng.uniform(0.0, 0.12)
    color = low * rgb(*(1 + rng.uniform(-high, high, 3) * 2))
    spot = np.exp(-((x - rng.uniform(0.3, 0.7)) ** 2 + (y - rng.uniform(0.2, 0.5)) ** 2) / 0.25)
    return color * (0.75 + 0.4 * spot + 0.05 * (fractal(rng, size, 4, 2) - 0.5))[..., None]
