"""Pieces of a figure as plain arrays, and how they are put together.

Axes: V vertices, T triangles; decimetres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

HAIR, CLOTH, FRAME, HAT, SCARF = 5, 6, 7, 8, 9
"""Materials beyond the parts of the body (`body.SKIN` to `body.LASH`)."""


@dataclass(frozen=True)
class Mesh:
    """Triangles with what the renderer needs at each vertex."""

    positions_V3: np.ndarray
    rest_V3: np.ndarray
    """Where the vertex lies on the body at rest: the space in which skin and cloth are painted."""
    triangles_T3: np.ndarray
    material_T: np.ndarray
    jitter_T: np.ndarray
    cut_V: np.ndarray
    head_V: np.ndarray
    paint_V3: np.ndarray
    """Occlusion, lips, eyelids."""

    @classmethod
    def of(
        cls,
        positions: np.ndarray,
        triangles: np.ndarray,
        material: int | np.ndarray,
        *,
        rest: np.ndarray | None = None,
        cut: np.ndarray | float = 1.0,
        head: np.ndarray | float = 1.0,
        jitter: float = 0.0,
        occlusion: np.ndarray | float = 0.9,
        lips: np.ndarray | float = 0.0,
        eyelids: np.ndarray | float = 0.0,
    ) -> Mesh:
        """Fill what is constant."""
        n = len(positions)
        paint = np.stack([np.broadcast_to(value, n) for value in (occlusion, lips, eyelids)], 1)
        return cls(
            positions.astype(np.float32),
            (positions if rest is None else rest).astype(np.float32),
            triangles.astype(np.int32),
            np.broadcast_to(material, len(triangles)).astype(np.int32),
            np.full(len(triangles), jitter, np.float32),
            np.broadcast_to(cut, n).astype(np.float32),
            np.broadcast_to(head, n).astype(np.float32),
            paint.astype(np.float32),
        )


def join(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of several."""
    starts = np.cumsum([0] + [len(mesh.positions_V3) for mesh in meshes[:-1]])
    moved = [mesh.triangles_T3 + start for mesh, start in zip(meshes, starts, strict=True)]
    triangles = np.concatenate(moved)
    names = ("rest_V3", "material_T", "jitter_T", "cut_V", "head_V", "paint_V3")
    fields = {name: np.concatenate([getattr(mesh, name) for mesh in meshes]) for name in names}
    positions = np.concatenate([mesh.positions_V3 for mesh in meshes])
    return Mesh(positions, triangles_T3=triangles.astype(np.int32), **fields)


def grid_triangles(rows: int, columns: int, closed: bool = False) -> np.ndarray:
    """Triangles of a (rows, columns) grid of vertices; `closed` joins the last row to the first."""
    r, c = np.meshgrid(np.arange(rows if closed else rows - 1), np.arange(columns - 1), indexing="ij")
    a, b = (r * columns + c).ravel(), ((r + 1) % rows * columns + c).ravel()
    return np.concatenate([np.stack([a, b, a + 1], 1), np.stack([a + 1, b, b + 1], 1)]).astype(np.int32)


def ellipsoid(centre: Sequence[float], radii: Sequence[float], material: int) -> Mesh:
    """An ellipsoid that follows the head."""
    turns, lifts = np.linspace(0, 2 * np.pi, 18, endpoint=False), np.linspace(-np.pi / 2, np.pi / 2, 11)
    turn, lift = np.meshgrid(turns, lifts, indexing="ij")
    unit = np.stack([np.sin(turn) * np.cos(lift), np.sin(lift), np.cos(turn) * np.cos(lift)], 2)
    positions = np.asarray(centre) + unit.reshape(-1, 3) * np.asarray(radii)
    return Mesh.of(positions, grid_triangles(18, 11, closed=True), material, occlusion=0.85)


def tube(path_P3: np.ndarray, radius: float, material: int, closed: bool = False, sides: int = 5) -> Mesh:
    """A thin tube along points, for spectacle frames; it follows the head."""
    ahead = np.roll(path_P3, -1, 0) - np.roll(path_P3, 1, 0) if closed else np.gradient(path_P3, axis=0)
    ahead = ahead / np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-6)
    first = np.cross(ahead, [0.31, 0.92, 0.24])
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(ahead, first)
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    ring = first[:, None] * np.cos(angle)[None, :, None] + second[:, None] * np.sin(angle)[None, :, None]
    positions = (path_P3[:, None] + radius * ring).reshape(-1, 3)
    return Mesh.of(positions, grid_triangles(len(path_P3), sides + 1, closed), material)
