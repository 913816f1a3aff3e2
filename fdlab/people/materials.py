"""What skin, eyes and cloth look like at a point of the body at rest, before any light falls on them.

`q` is a person's paint vector. The functions write linear RGB into `color`.
"""

from __future__ import annotations

import numpy as np

from fdlab.people.compiled import compiled
from fdlab.people.raster import hash_noise

PAINT = {
    "skin": 3,
    "lip": 3,
    "iris": 3,
    "hair": 3,
    "brow": 3,
    "beard": 1,
    "freckles": 1,
    "makeup": 1,
    "age": 1,
    "curl": 1,
    "shaved": 1,
    "cloth": 3,
    "second": 3,
    "pattern": 1,
    "garment": 1,
    "frame": 3,
    "hat": 3,
    "scarf": 3,
    "moles": 6,
    "gaze": 2,
    "eye": 3,
    "number": 1,
}
"""Layout of a person's paint vector: name and length, in order."""
_at = dict(zip(PAINT, np.cumsum([0, *PAINT.values()]).tolist(), strict=False))
SKIN0, LIP0, IRIS0, HAIR0, BROW0, BEARD = (_at[name] for name in list(PAINT)[:6])
FRECKLES, MAKEUP, AGE, CURL, SHAVED, CLOTH0 = (_at[name] for name in list(PAINT)[6:12])
SECOND0, PATTERN, GARMENT, FRAME0, HAT0, SCARF0 = (_at[name] for name in list(PAINT)[12:18])
MOLES0, GAZE0, EYE0, NUMBER = (_at[name] for name in list(PAINT)[18:])


def paint_vector(paint: dict[str, np.ndarray | float]) -> np.ndarray:
    """Lay a figure's paint out as one vector."""
    return np.concatenate([np.atleast_1d(np.asarray(paint[name], np.float32)) for name in PAINT])


@compiled
def step(low, high, x):
    """Hermite step from 0 at `low` to 1 at `high`, one number."""
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)


@compiled
def _dark(q, x, y, z, side):
    """How much of its light skin keeps under the eyes, in folds, freckles and moles."""
    under = np.exp(-(((side - 0.30) / 0.15) ** 2) - ((y - 7.10) / 0.055) ** 2) * step(1.0, 1.2, z)
    dark = 1 - under * (0.10 + 0.22 * q[AGE])
    if q[AGE] > 0.35:
        fold = np.exp(-(((side - 0.33 - 0.35 * (6.85 - y)) / 0.05) ** 2))
        fold = fold * step(6.52, 6.62, y) * step(7.0, 6.85, y)
        brow_lines = (0.5 + 0.5 * np.sin(y * 62 + 2 * x)) ** 6
        brow_lines = brow_lines * step(7.6, 7.7, y) * step(8.05, 7.95, y) * step(0.8, 1.0, z)
        dark *= 1 - (q[AGE] - 0.35) * (0.30 * fold * step(1.0, 1.2, z) + 0.10 * brow_lines)
    if q[FRECKLES] > 0:
        spot = step(0.66, 0.78, hash_noise(x * 24, y * 24, z * 24))
        dark *= 1 - 0.40 * q[FRECKLES] * spot * np.exp(-(((y - 6.98) / 0.22) ** 2)) * step(0.8, 1.1, z)
    for m in range(3):
        dx, dy = x - q[MOLES0 + 2 * m], y - q[MOLES0 + 2 * m + 1]
        if z > 0.8:
            dark *= 1 - 0.75 * step(0.05, 0.025, np.sqrt(dx * dx + dy * dy))
    return dark


@compiled
def _brow(color, q, side, y, z):
    """Paint an arched band above the eyes, made of short strokes; returns the share of gloss that stays."""
    if z > 0.75 and 7.35 < y < 7.85:
        t = (side - 0.11) / 0.46
        if -0.05 < t < 1.08:
            bow = np.sin(np.pi * min(max(t, 0.0), 1.0) ** 0.8)
            arch = 7.520 + q[BROW0 + 2] + (0.03 + 0.05 * q[BROW0 + 1]) * bow - 0.05 * t
            half = 0.052 * q[BROW0] ** 0.6 * (1 - 0.55 * max(t, 0.0))
            edge = (1 - step(0.6, 1.15, abs(y - arch) / half)) * step(-0.05, 0.05, t) * step(1.08, 0.92, t)
            stroke = 0.75 + 0.5 * hash_noise(side * 45 + y * 18, y * 22, 3.0)
            cover = min(edge * stroke * min(0.75 + 0.2 * q[BROW0], 0.95), 0.96)
            for k in range(3):
                color[k] += (q[HAIR0 + k] * 0.55 - color[k]) * cover
            return 1 - 0.7 * cover
    return 1.0


@compiled
def _beard(color, q, x, y, z, lip):
    """Paint stubble, beard, goatee or moustache; returns the share of gloss that stays."""
    kind = q[BEARD]
    if kind <= 0 or z <= 0.25:
        return 1.0
    side = abs(x)
    below = (0.62 + 0.95 * (side - 0.35)) * 1.0 + 6.25 - y + 0.35
    jaw = step(6.12, 6.22, y + 0.05 * z) * step(-0.2, 0.1, below)
    mouth = 1 - np.exp(-((side / 0.30) ** 4) - ((y - 6.60) / 0.105) ** 4)
    upper = np.exp(-((side / 0.36) ** 4) - ((y - 6.80 + 0.10 * side) / 0.065) ** 4)
    upper = upper * step(1.2, 1.35, z)
    chin = np.exp(-((side / 0.34) ** 4)) * step(6.12, 6.2, y) * step(6.62, 6.5, y)
    chin = chin * step(0.95, 1.1, z)
    strand = 0.65 + 0.7 * hash_noise(x * 30, y * 12, z * 30)
    cover = 0.0
    if kind == 1:
        cover = 0.34 * max(jaw * mouth, upper) * strand
    elif kind == 2:
        cover = 0.95 * max(jaw * mouth, upper) * min(strand + 0.2, 1.0)
    elif kind == 3:
        cover = 0.92 * max(chin * mouth, upper * 0.95) * min(strand + 0.2, 1.0)
    elif kind == 4:
        cover = 0.95 * upper * min(strand + 0.2, 1.0)
    cover = min(cover, 0.95) * (1 - lip)
    for k in range(3):
        color[k] += (q[HAIR0 + k] * 0.8 - color[k]) * cover
    return 1 - 0.8 * cover


@compiled
def skin(color, q, x, y, z, occlusion, lips, lids):
    """Colour of skin at a point of the body at rest; returns how glossy it is."""
    side = abs(x)
    tone = 0.94 + 0.12 * hash_noise(x * 3 + q[NUMBER], y * 3, z * 3)
    tone = tone + 0.05 * (hash_noise(x * 22, y * 22, z * 22) - 0.5)
    cheek = np.exp(-(((side - 0.52) / 0.24) ** 2) - ((y - 6.95) / 0.22) ** 2) * step(0.7, 1.1, z)
    nose = np.exp(-((side / 0.16) ** 2) - ((y - 6.98) / 0.14) ** 2) * step(1.4, 1.6, z)
    flush = 0.30 * cheek * (1 + q[MAKEUP]) + 0.22 * nose
    for k in range(3):
        color[k] = q[SKIN0 + k] * tone
    color[0] *= 1 + 0.10 * flush
    color[1] *= 1 - 0.42 * flush
    color[2] *= 1 - 0.36 * flush
    dark = _dark(q, x, y, z, side)
    for k in range(3):
        color[k] *= dark
    gloss = 0.55
    lip = step(0.25, 0.6, lips)
    if lip > 0:
        for k in range(3):
            painted = q[LIP0 + k] * (1.0 - 0.35 * q[MAKEUP] * (0.2 if k == 0 else 1.0))
            color[k] += (painted - color[k]) * lip * 0.9
        gloss += 0.35 * lip
    lid = step(0.3, 0.7, lids)
    shade = lid * (0.12 + 0.45 * q[MAKEUP])
    color[0] *= 1 - 0.8 * shade
    color[1] *= 1 - shade
    color[2] *= 1 - 0.8 * shade
    gloss *= _brow(color, q, side, y, z)
    gloss *= _beard(color, q, x, y, z, lip)
    for k in range(3):
        # Light that enters skin comes out redder where little sky is seen.
        color[k] *= occlusion ** (0.75, 1.15, 1.25)[k] if k else occlusion**0.75
    return gloss


@compiled
def eye(color, q, x, y, z):
    """Colour of an eyeball: white, iris and pupil round the direction of gaze."""
    sign = 1.0 if x > 0 else -1.0
    dx, dy, dz = x - sign * q[EYE0], y - q[EYE0 + 1], z - q[EYE0 + 2]
    length = np.sqrt(dx * dx + dy * dy + dz * dz) + 1e-9
    gx, gy = np.sin(q[GAZE0]), np.sin(q[GAZE0 + 1])
    gz = np.sqrt(max(1 - gx * gx - gy * gy, 0.0))
    angle = np.degrees(np.arccos(min(max((dx * gx + dy * gy + dz * gz) / length, -1.0), 1.0)))
    white = (0.78, 0.74, 0.71)
    pupil = step(11.5, 14.0, angle)
    iris = step(28.0, 32.0, angle)
    ring = 0.45 + 0.55 * step(31.0, 24.0, angle)
    spokes = 0.8 + 0.4 * hash_noise(np.arctan2(dy, dx) * 9, angle * 0.12, 1.0)
    for k in range(3):
        inner = 0.006 + (q[IRIS0 + k] * 1.5 * ring * spokes - 0.006) * pupil
        color[k] = inner + (white[k] - inner) * iris


@compiled
def cloth(color, q, x, y, z):
    """Colour of a garment: its pattern, what it opens on, its weave."""
    kind, pattern = q[GARMENT], q[PATTERN]
    second = 0.0
    if pattern == 1:
        second = step(0.42, 0.5, abs((y * 2.3) % 1 - 0.5) * 2 * 0.9)
    elif pattern == 2:
        a, b = (np.floor(x * 2.6) + 100) % 2, (np.floor(y * 2.6 + 0.3) + 100) % 2
        second = 1.0 if a == b else 0.0
    elif pattern == 3:
        u, v = x * 2.2 + (np.floor(y * 2.2) % 2) * 0.5, y * 2.2
        second = 1.0 if ((u - np.floor(u) - 0.5) ** 2 + (v - np.floor(v) - 0.5) ** 2) < 0.075 else 0.0
    for k in range(3):
        color[k] = q[CLOTH0 + k] + (q[SECOND0 + k] - q[CLOTH0 + k]) * second
    if kind == 3 and z > 0.2:
        # A jacket is open in front: a white shirt shows between the lapels.
        opening = 0.10 + 0.30 * step(4.0, 5.7, y)
        inner = 1.0 if abs(x) < opening else 0.0
        seam = 1.0 if opening <= abs(x) < opening + 0.05 else 0.0
        for k in range(3):
            color[k] += ((0.74, 0.74, 0.72)[k] - color[k]) * inner
            color[k] *= 1 - 0.45 * seam
    if kind == 2 and z > 0.2 and abs(x) < 0.09:
        button = 1.0 if (x * x + ((y * 1.8) % 1 / 1.8 - 0.28) ** 2) < 0.0018 else 0.0
        seam = 1.0 if abs(abs(x) - 0.075) < 0.014 else 0.0
        for k in range(3):
            color[k] += (0.6 - color[k]) * button
            color[k] *= 1 - 0.3 * seam
    weave = 0.92 + 0.16 * hash_noise(x * 40, y * 40, z * 40)
    if kind == 1:
        weave *= 0.88 + 0.24 * (0.5 + 0.5 * np.sin(x * 55)) * (0.5 + 0.5 * np.sin(y * 38))
    for k in range(3):
        color[k] *= weave
