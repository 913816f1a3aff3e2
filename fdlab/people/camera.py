"""Camera, light and the picture of figures before a background.

Axes: H W pixels, V vertices, T triangles. The camera looks along -z from the origin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fdlab.people import materials, raster, shading
from fdlab.people.figure import Figure

DISTANCE = 17.0
"""Decimetres from the camera to a neck: a portrait lens."""
SHADOW_SIZE = 192


@dataclass(frozen=True)
class Light:
    """Direction towards the key light, and linear RGB of key, sky, ground and rim."""

    direction: tuple[float, float, float]
    key: tuple[float, float, float]
    sky: tuple[float, float, float]
    ground: tuple[float, float, float]
    rim: tuple[float, float, float]

    def vector(self) -> np.ndarray:
        """Fifteen numbers, as `shading.shade` reads them."""
        d = np.asarray(self.direction, float)
        return np.concatenate([d / np.linalg.norm(d), self.key, self.sky, self.ground, self.rim])


@dataclass(frozen=True)
class Place:
    """Where a figure stands: decimetres from the middle of the picture; `back` is away from the camera."""

    right: float
    up: float
    back: float = 0.0


def _stack(figures: Sequence[Figure], places: Sequence[Place]) -> dict[str, np.ndarray]:
    starts = np.cumsum([0] + [len(f.mesh.positions_V3) for f in figures[:-1]])
    moved = [
        f.mesh.positions_V3 + np.array([p.right, p.up, -DISTANCE - p.back], np.float32)
        for f, p in zip(figures, places, strict=True)
    ]
    triangles = [f.mesh.triangles_T3 + s for f, s in zip(figures, starts, strict=True)]
    names = ("rest_V3", "cut_V", "paint_V3", "material_T", "jitter_T")
    fields = {name: np.concatenate([getattr(f.mesh, name) for f in figures]) for name in names}
    return fields | {
        "positions_V3": np.concatenate(moved).astype(np.float32),
        "normals_V3": np.concatenate([f.normals_V3 for f in figures]).astype(np.float32),
        "triangles_T3": np.concatenate(triangles),
        "person_T": np.concatenate([np.full(len(f.mesh.triangles_T3), i) for i, f in enumerate(figures)]),
    }


def photograph(
    figures: Sequence[Figure], places: Sequence[Place], light: Light, scale: float, background_HW3: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Take the picture.

    scale: pixels a decimetre at the plane of a neck. background_HW3: linear RGB.
    Returns linear RGB (H, W, 3) and who (H, W) uint8: 0 background, otherwise 1 + the figure's index.
    """
    height, width = background_HW3.shape[:2]
    m = _stack(figures, places)
    p, focal = m["positions_V3"], scale * DISTANCE
    depth = -p[:, 2]
    right, down = width / 2 + focal * p[:, 0] / depth, height / 2 - focal * p[:, 1] / depth
    screen = np.stack([right, down, depth], 1).astype(np.float32)
    triangles, cut, rest = m["triangles_T3"], m["cut_V"], m["rest_V3"]
    triangle, weights, _ = raster.rasterise(screen, triangles, cut, m["jitter_T"], rest, height, width)
    view = _shadow_view(light, p)
    seen = (p @ view[:, :3].T + view[:, 3]).astype(np.float32)
    smooth = np.zeros(len(triangles), np.float32)
    _, _, shadow = raster.rasterise(seen, triangles, cut, smooth, rest, SHADOW_SIZE, SHADOW_SIZE)
    return shading.shade(
        triangle,
        weights,
        p,
        rest,
        m["normals_V3"],
        m["paint_V3"],
        triangles,
        m["material_T"],
        m["person_T"],
        np.stack([materials.paint_vector(f.paint) for f in figures]),
        light.vector(),
        shadow,
        view,
        background_HW3,
    )


def _shadow_view(light: Light, positions_V3: np.ndarray) -> np.ndarray:
    """Orthographic 3 x 4 map from the world to the shadow map's x, y and depth."""
    d = light.vector()[:3]
    side = np.cross([0.0, 1.0, 0.0], d)
    side /= np.linalg.norm(side)
    up = np.cross(d, side)
    basis = np.stack([side, -up, -d])
    view = positions_V3 @ basis.T
    low, high = view.min(0), view.max(0)
    span = max(high[0] - low[0], high[1] - low[1]) * 1.02
    zoom = np.array([SHADOW_SIZE / span, SHADOW_SIZE / span, 1.0])
    shift = np.array([-low[0] * zoom[0], -low[1] * zoom[1], 1.0 - low[2]])
    return np.concatenate([basis * zoom[:, None], shift[:, None]], 1)
