"""Hair: a shell grown out of the scalp, a sheet that hangs from it, a knot or a tail.

A shell ends at the hairline, a curve in skull angles, where its thickness has fallen to zero: so hair meets
the temple without a step. Axes: V vertices, T triangles; decimetres.
"""

from __future__ import annotations

import numpy as np

from fdlab.people.body import SKIN, SKULL_CENTRE, Body, smoothstep
from fdlab.people.identity import Identity
from fdlab.people.mesh import HAIR, Mesh, ellipsoid, grid_triangles
from fdlab.people.raster import hash_noise
from fdlab.randomness import numpy_rng

HAIRLINE = np.array(
    [
        (0, 33),
        (18, 33),
        (34, 30),
        (46, 24),
        (57, 15),
        (66, 5),
        (73, -6),
        (82, -8),
        (88, 6),
        (96, 14),
        (112, 14),
        (122, 2),
        (132, -16),
        (145, -30),
        (180, -36),
    ],
    float,
)
"""Azimuth and elevation in degrees of the lower edge of the hair; between 75 and 83 lies the sideburn."""
THICKNESS = {
    "crew": (0.05, 0.03),
    "short": (0.16, 0.06),
    "side": (0.24, 0.07),
    "receding": (0.08, 0.06),
    "curly": (0.30, 0.22),
    "afro": (0.62, 0.55),
    "bob": (0.14, 0.10),
    "long": (0.12, 0.08),
    "bun": (0.06, 0.05),
    "ponytail": (0.06, 0.05),
}
"""On top and at the sides."""
SHEETS = {"bob": (6.0, 6.45), "long": (3.9, 5.4)}
"""Height of the lower end for the longest and the shortest hair."""


def hairline(person: Identity, azimuth_V: np.ndarray, elevation_V: np.ndarray) -> np.ndarray:
    """Signed distance above the hairline in units of 30 degrees; positive where hair grows."""
    side = np.abs(azimuth_V)
    edge = np.interp(side, HAIRLINE[:, 0], HAIRLINE[:, 1])
    if person.hair_style == "receding":
        edge += 16 * smoothstep(60, 30, side) * (0.6 + 0.4 * np.cos(np.radians(side * 5)))
    if person.fringe:
        edge -= 15 * person.fringe * smoothstep(58, 34, side)
    if person.hair_style in ("afro", "curly"):
        edge -= 4
    return (elevation_V - edge) / 30


def _bumps(points_V3: np.ndarray, frequency: float) -> np.ndarray:
    return np.array([hash_noise(*(p * frequency)) for p in points_V3]) * 2 - 1


def shell(body: Body, person: Identity, shaped_V3: np.ndarray, normal_V3: np.ndarray) -> Mesh | None:
    """The scalp's hair: the part of the head above the hairline, pushed out along its normals."""
    if person.hair_style == "bald":
        return None
    cut = hairline(person, body.azimuth_V, body.elevation_V)
    cut = np.where((body.paint["ears"] > 0.3) | (body.rest_V3[:, 1] < 6.0), -1.0, cut)
    keep = (body.part_T == SKIN) & (cut[body.triangles_T3] > -0.4).any(1)
    used = np.unique(body.triangles_T3[keep])
    index = np.zeros(len(cut), np.int32)
    index[used] = np.arange(len(used))
    top, side = THICKNESS[person.hair_style]
    high = smoothstep(10, 60, body.elevation_V[used])
    thick = (side + (top - side) * high) * person.hair_volume
    if person.hair_style == "side":
        parted = np.sin(np.radians(body.azimuth_V[used])) * (-1) ** person.number
        thick *= 1 + 0.5 * np.clip(parted, -0.6, 1) * high
    grown = smoothstep(-0.02, 0.16 + 0.5 * thick, cut[used])
    rest = body.rest_V3[used]
    if person.hair_style in ("curly", "afro"):
        thick *= 1 + 0.22 * _bumps(rest + person.number % 97, 4.5)
    radial = rest - SKULL_CENTRE
    radial /= np.linalg.norm(radial, axis=1, keepdims=True)
    blend = 0.6 * radial + 0.4 * normal_V3[used] if person.hair_style == "afro" else normal_V3[used]
    positions = shaped_V3[used] + blend * (0.012 + thick * grown)[:, None]
    triangles = index[body.triangles_T3[keep]]
    head = np.maximum(body.head_V[used], 0.9)
    sky = 0.72 + 0.28 * grown
    cut = cut[used]
    return Mesh.of(positions, triangles, HAIR, rest=rest, cut=cut, head=head, jitter=0.22, occlusion=sky)


def _outline(body: Body, shaped_V3: np.ndarray, turn: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Distance of the head's surface from the vertical axis, (turns, heights), degrees and decimetres."""
    scalp = (body.rest_V3[:, 1] > 6.2) & (body.rest_V3[:, 2] < 1.35)
    azimuth, y = body.azimuth_V[scalp], shaped_V3[scalp, 1]
    radius = np.hypot(shaped_V3[scalp, 0], shaped_V3[scalp, 2] - SKULL_CENTRE[2])
    d = np.abs((azimuth[:, None] - turn[None] + 180) % 360 - 180)
    level = np.exp(-(((y[:, None] - heights[None]) / 0.16) ** 2))
    weight = np.exp(-((d / 9) ** 2))[:, :, None] * level[:, None]
    return (weight * radius[:, None, None]).sum(0) / np.maximum(weight.sum(0), 1e-6)


def sheet(body: Body, person: Identity, shaped_V3: np.ndarray) -> Mesh | None:
    """The hair that hangs: a curtain round the sides and the back, from above the ears down."""
    if person.hair_style not in SHEETS:
        return None
    rng = numpy_rng(1, "hair", person.number)
    lowest, highest = SHEETS[person.hair_style]
    end = highest + (lowest - highest) * person.hair_length
    front = rng.uniform(62, 72) if person.hair_style == "bob" or rng.random() < 0.7 else rng.uniform(84, 96)
    turn, s = np.linspace(front, 360 - front, 45), np.linspace(0, 1, 22)
    top = 7.85 + (shaped_V3[:, 1].max() - body.rest_V3[:, 1].max())
    y = top + (end - top) * s
    radius = _outline(body, shaped_V3, turn, np.maximum(y, 6.9))
    lift = (0.05 + 0.13 * person.hair_volume) * smoothstep(0, 0.3, s)
    radius = np.maximum.accumulate(radius, axis=1) + lift
    waves = 0.05 * np.sin(s * rng.uniform(9, 22) + turn[:, None] * 0.2) * rng.choice([0, 0, 1])
    radius = radius + waves + 0.04 * np.sin(turn[:, None] * rng.uniform(0.15, 0.3)) * s
    if person.hair_style == "bob":
        radius -= 0.22 * smoothstep(0.75, 1.0, s)
    angle = np.radians(turn)[:, None]
    x, z = np.sin(angle) * radius, np.cos(angle) * radius + SKULL_CENTRE[2]
    beside = smoothstep(115, 75, np.abs((turn + 180) % 360 - 180))[:, None]
    z = z + 0.45 * beside * smoothstep(0.45, 1.0, s) * (person.hair_style == "long")
    positions = np.stack([x, np.broadcast_to(y, x.shape), z], 2).reshape(-1, 3).astype(np.float32)
    ragged = 0.25 * np.sin(turn * 1.7 + person.number) + 0.15 * np.sin(turn * 0.61)
    cut = ((1 - s)[None] * 3 - 0.25 + 0.3 * ragged[:, None]).reshape(-1)
    edge = np.minimum(np.arange(45), np.arange(45)[::-1])[:, None] / 2.0
    cut = np.minimum(cut, np.broadcast_to(edge, x.shape).reshape(-1) + 0.12)
    head = np.broadcast_to(smoothstep(4.6, 6.6, y), x.shape).reshape(-1)
    sky = np.broadcast_to(0.95 - 0.2 * s, x.shape).reshape(-1)
    return Mesh.of(positions, grid_triangles(45, 22), HAIR, cut=cut, head=head, jitter=0.35, occlusion=sky)


def knot(person: Identity, shaped_V3: np.ndarray) -> Mesh | None:
    """A bun on top or a tail behind."""
    top = float(shaped_V3[:, 1].max())
    size = 0.75 + 0.35 * person.hair_volume
    if person.hair_style == "bun":
        return ellipsoid((0.0, top + 0.12, -0.35), (0.40 * size, 0.34 * size, 0.40 * size), HAIR)
    if person.hair_style == "ponytail":
        lean = 0.45 * (-1) ** person.number
        return ellipsoid((lean, top - 1.1, -1.15), (0.34 * size, 1.0 * size, 0.36 * size), HAIR)
    return None
