"""What people wear: garments grown out of the bust, scarves, woollen hats and spectacles.

Axes: V vertices; decimetres.
"""

from __future__ import annotations

import numpy as np

from fdlab.people.body import EYE, SKIN, Body, smoothstep
from fdlab.people.identity import Identity
from fdlab.people.mesh import CLOTH, FRAME, HAT, SCARF, Mesh, tube

GARMENTS = ("t-shirt", "sweater", "shirt", "jacket")
PATTERNS = ("plain", "striped", "checked", "dotted")
COLORS = {
    "red": (0.50, 0.035, 0.03),
    "orange": (0.75, 0.22, 0.03),
    "yellow": (0.80, 0.55, 0.06),
    "green": (0.04, 0.26, 0.07),
    "blue": (0.04, 0.10, 0.45),
    "purple": (0.20, 0.05, 0.35),
    "pink": (0.80, 0.28, 0.40),
    "brown": (0.18, 0.08, 0.035),
    "grey": (0.22, 0.22, 0.23),
    "black": (0.018, 0.018, 0.020),
    "white": (0.80, 0.79, 0.76),
}


def _neckline(kind: str, rest_V3: np.ndarray) -> np.ndarray:
    """Height at which a garment ends, at each vertex."""
    x, z = np.abs(rest_V3[:, 0]), rest_V3[:, 2]
    front = smoothstep(-0.1, 0.6, z)
    shoulder = 1.5 * smoothstep(0.62, 1.0, x)
    if kind == "sweater":
        return np.full(len(x), 5.98) + 0.05 * (1 - front)
    if kind == "jacket":
        return 5.72 - 0.12 * front + shoulder
    if kind == "shirt":
        return 5.70 - 0.55 * front * np.clip(1 - x / 0.38, 0, 1) + shoulder
    return 5.62 - 0.25 * front * smoothstep(0.85, 0.2, x) + shoulder


def _band(
    body: Body,
    shaped_V3: np.ndarray,
    normal_V3: np.ndarray,
    offset: np.ndarray,
    cut: np.ndarray,
    material: int,
    occlusion: np.ndarray | float,
) -> Mesh:
    keep = (body.part_T == SKIN) & (cut[body.triangles_T3] > -0.3).any(1)
    used = np.unique(body.triangles_T3[keep])
    index = np.zeros(len(cut), np.int32)
    index[used] = np.arange(len(used))
    positions = shaped_V3[used] + normal_V3[used] * np.broadcast_to(offset, len(cut))[used, None]
    triangles, sky = index[body.triangles_T3[keep]], np.broadcast_to(occlusion, len(cut))[used]
    rest, head = body.rest_V3[used], body.head_V[used]
    return Mesh.of(positions, triangles, material, rest=rest, cut=cut[used], head=head, occlusion=sky)


def garment(body: Body, kind: str, shaped_V3: np.ndarray, normal_V3: np.ndarray) -> list[Mesh]:
    """The garment, and its collar where it has one."""
    rest = body.rest_V3
    loose = {"t-shirt": 0.05, "sweater": 0.12, "shirt": 0.06, "jacket": 0.16}[kind]
    inside = np.where(body.elevation_V > -20, -1.0, 1.0)
    cut = np.minimum(_neckline(kind, rest) - rest[:, 1], inside)
    sky = 0.35 + 0.65 * body.paint["occlusion"]
    pieces = [_band(body, shaped_V3, normal_V3, np.full(len(cut), loose), cut, CLOTH, sky)]
    if kind in ("shirt", "jacket"):
        height = 5.92 if kind == "shirt" else 5.80
        opening = np.abs(rest[:, 0]) - 0.55 * smoothstep(4.9, 5.7, rest[:, 1]) * (rest[:, 2] > 0.2)
        collar = np.minimum(np.minimum(height - rest[:, 1], rest[:, 1] - 5.36), np.minimum(opening, inside))
        pieces.append(_band(body, shaped_V3, normal_V3, np.full(len(cut), loose + 0.07), collar, CLOTH, sky))
    return pieces


def scarf(body: Body, shaped_V3: np.ndarray, normal_V3: np.ndarray) -> Mesh:
    """A thick band round the neck."""
    rest = body.rest_V3
    cut = np.minimum(6.02 - rest[:, 1] + 0.05 * np.sin(rest[:, 0] * 9), rest[:, 1] - 5.42)
    cut = np.where(body.elevation_V > -24, -1.0, cut)
    fold = np.sin(rest[:, 1] * 26 + rest[:, 0] * 5)
    return _band(body, shaped_V3, normal_V3, 0.31 + 0.05 * fold, cut, SCARF, 0.85 + 0.15 * fold)


def hat(body: Body, shaped_V3: np.ndarray, normal_V3: np.ndarray) -> list[Mesh]:
    """A woollen hat with a turned-up brim."""
    side = np.abs(body.azimuth_V)
    edge = np.interp(side, [0, 70, 110, 180], [25, 20, 12, -4])
    above = np.where(body.rest_V3[:, 1] < 6.6, -1.0, (body.elevation_V - edge) / 30)
    brim = np.minimum(above, (edge + 17 - body.elevation_V) / 30)
    high = smoothstep(20, 80, body.elevation_V)
    return [
        _band(body, shaped_V3, normal_V3, 0.20 + 0.22 * high, above, HAT, 0.95),
        _band(body, shaped_V3, normal_V3, np.full(len(above), 0.30), brim, HAT, 0.9),
    ]


def glasses(body: Body, person: Identity, shaped_V3: np.ndarray) -> list[Mesh]:
    """Spectacles that sit on this person's nose and ears."""
    if person.glasses == "none":
        return []
    eyes = shaped_V3[body.vertices_of(EYE)]
    left, right = eyes[eyes[:, 0] > 0].mean(0), eyes[eyes[:, 0] < 0].mean(0)
    gap = left[0] - right[0]
    x, y, z = body.rest_V3.T
    nose = shaped_V3[(np.abs(x) < 0.08) & (np.abs(y - 7.22) < 0.1) & (z > 1.2)]
    front = max(float(eyes[:, 2].max()) + 0.17, float(nose[:, 2].max()) + 0.02)
    angle = np.linspace(0, 2 * np.pi, 26, endpoint=False)
    power = 1.0 if person.glasses == "round" else 0.45
    outline = np.stack([np.sign(w) * np.abs(w) ** power for w in (np.cos(angle), np.sin(angle))], 1)
    wide, high = (0.285, 0.25) if person.glasses == "round" else (0.30, 0.20)
    pieces, level = [], float(left[1] + right[1]) / 2 - 0.03
    for sign in (1, -1):
        centre = sign * (gap / 2 + 0.03)
        across = centre + outline[:, 0] * wide
        bend = front - 0.22 * np.clip(np.abs(across) - 0.25, 0, 1) ** 1.2
        rim = np.stack([across, level + outline[:, 1] * high, bend], 1)
        pieces.append(tube(rim, 0.026, FRAME, closed=True))
        ear = np.abs(x - sign * 0.8) + np.abs(y - 7.3) + np.abs(z - 0.45)
        hook = shaped_V3[np.argmin(ear)]
        t = np.linspace(0, 1, 8)[:, None]
        hinge = front - 0.22 * max(gap / 2 + wide - 0.25, 0) ** 1.2
        start = np.array([centre + sign * wide, level + 0.08, hinge])
        path = start + (np.array([hook[0] + sign * 0.0, hook[1] + 0.06, hook[2]]) - start) * t
        path[:, 0] += sign * 0.03 * np.sin(np.pi * t[:, 0])
        pieces.append(tube(path, 0.024, FRAME))
    bridge = np.linspace(-1, 1, 7)
    inner = gap / 2 + 0.03 - wide
    bow = 1 - bridge**2
    arch = np.stack([bridge * inner, level + 0.06 + 0.05 * bow, front + 0.02 * bow], 1)
    return [*pieces, tube(arch, 0.024, FRAME)]
