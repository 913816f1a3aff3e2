"""The body: MakeHuman's CC0 head and bust, its morph targets and the points that the rest is hung on.

Axes: V vertices, T triangles. Units are decimetres; x to the person's left, y up, z to the front.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

ASSET = Path(__file__).parent.parent / "assets" / "people" / "body.npz"
SKIN, EYE, TEETH, TONGUE, LASH = range(5)
"""Parts of the body mesh."""
TARGET_UNIT = 2000.0
"""Displacements are stored as integers of 1/2000 decimetre."""
SKULL_CENTRE = np.array([0.0, 7.3, 0.15], np.float32)
NECK_PIVOT = np.array([0.0, 5.95, 0.1], np.float32)


@dataclass(frozen=True)
class Body:
    """The mesh at rest, the same for everyone."""

    rest_V3: np.ndarray
    triangles_T3: np.ndarray
    part_T: np.ndarray
    paint: dict[str, np.ndarray]
    """Per-vertex masks in [0, 1]: lips, eyelids, ears, inside-mouth, occlusion."""
    joints: dict[str, np.ndarray]
    target_names: tuple[str, ...]
    targets: csr_matrix
    """(number of targets, 3 V) displacements."""
    azimuth_V: np.ndarray
    """Angle about the vertical through the skull, degrees; 0 in front, positive to the person's left."""
    elevation_V: np.ndarray
    """Angle above the horizontal through the skull's centre, degrees."""
    head_V: np.ndarray
    """How much a vertex follows the head: 0 on the shoulders, 1 above the jaw."""

    def shape(self, weights: Mapping[str, float]) -> np.ndarray:
        """Displace the rest mesh by weighted targets, (V, 3) float32; unknown names raise KeyError."""
        row = np.zeros(len(self.target_names), np.float32)
        for name, value in weights.items():
            row[self._index[name]] = value
        return self.rest_V3 + (self.targets.T @ row).reshape(-1, 3)

    @property
    def _index(self) -> dict[str, int]:
        return _target_index()

    def vertices_of(self, part: int) -> np.ndarray:
        """Indices of the vertices of one part."""
        return np.unique(self.triangles_T3[self.part_T == part])


def skull_angles(points_V3: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Azimuth and elevation in degrees about the skull's centre of points at rest."""
    d = points_V3 - SKULL_CENTRE
    azimuth = np.degrees(np.arctan2(d[:, 0], d[:, 2]))
    elevation = np.degrees(np.arcsin(d[:, 1] / np.maximum(np.linalg.norm(d, axis=1), 1e-6)))
    return azimuth, elevation


def smoothstep(low: float, high: float | np.ndarray, x: np.ndarray) -> np.ndarray:
    """Hermite step from 0 at `low` to 1 at `high`."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


@lru_cache(maxsize=1)
def _target_index() -> dict[str, int]:
    return {name: k for k, name in enumerate(load().target_names)}


@lru_cache(maxsize=1)
def load() -> Body:
    """Load the body once a process."""
    with np.load(ASSET) as data:
        rest = data["positions"]
        starts, rows, values = data["target_starts"], data["target_rows"], data["target_values"]
        columns = (rows.astype(np.int64)[:, None] * 3 + np.arange(3)).ravel()
        targets = csr_matrix(
            (values.ravel().astype(np.float32) / TARGET_UNIT, columns, starts.astype(np.int64) * 3),
            shape=(len(starts) - 1, rest.size),
        )
        masks = (data["paint"].T / 255.0).astype(np.float32)
        paint = dict(zip(data["paint_names"].tolist(), masks, strict=True))
        joints = dict(zip(data["joint_names"].tolist(), data["joints"], strict=True))
        names = tuple(data["target_names"].tolist())
        triangles, parts = data["triangles"].astype(np.int32), data["parts"]
        paint["occlusion"] = data["occlusion"].astype(np.float32) / 255.0
    azimuth, elevation = skull_angles(rest)
    # The bend runs from collar bones to jaw, and is higher in front, where the chin moves with the head.
    head = smoothstep(5.35, 6.35, rest[:, 1] + 0.25 * np.clip(rest[:, 2] - 0.6, 0, 1))
    return Body(rest, triangles, parts, paint, joints, names, targets, azimuth, elevation, head)
