"""A z-buffer rasteriser: triangles in, for every pixel the nearest triangle and where it was hit.

Axes: V vertices, T triangles, H W pixels. Pixel centres lie at half integers; y grows downwards.
"""

from __future__ import annotations

import numpy as np

from fdlab.people.compiled import compiled


@compiled
def hash_noise(x: float, y: float, z: float) -> float:
    """Smooth value noise in [0, 1] at a point of space, one cycle a unit."""
    fx, fy, fz = np.floor(x), np.floor(y), np.floor(z)
    ix, iy, iz = int(fx), int(fy), int(fz)
    u, v, w = x - fx, y - fy, z - fz
    u, v, w = u * u * (3 - 2 * u), v * v * (3 - 2 * v), w * w * (3 - 2 * w)
    total = 0.0
    for k in range(8):
        a, b, c = k & 1, (k >> 1) & 1, k >> 2
        h = ((ix + a) * 73856093) ^ ((iy + b) * 19349663) ^ ((iz + c) * 83492791)
        h = (h ^ (h >> 13)) * 1274126177 & 0x7FFFFFFF
        h = (h ^ (h >> 16)) & 0xFFFF
        weight = (u if a else 1 - u) * (v if b else 1 - v) * (w if c else 1 - w)
        total += weight * h / 65535.0
    return total


@compiled
def rasterise(screen_V3, triangles_T3, cut_V, jitter_T, rest_V3, height, width):
    """Find the nearest triangle of every pixel.

    screen_V3: x, y in pixels and depth (positive, smaller is nearer); perspective has been divided out.
    cut_V: a triangle's surface ends where the interpolated cut plus `jitter_T` times noise falls below zero.
    Returns triangle_HW (int32, -1 where nothing), weights_HW2 (perspective-correct weights of the second and
    third corner) and depth_HW.
    """
    triangle = np.full((height, width), -1, np.int32)
    weights = np.zeros((height, width, 2), np.float32)
    depth = np.full((height, width), np.float32(np.inf), np.float32)
    for t in range(triangles_T3.shape[0]):
        a, b, c = triangles_T3[t, 0], triangles_T3[t, 1], triangles_T3[t, 2]
        if cut_V[a] < -0.2 and cut_V[b] < -0.2 and cut_V[c] < -0.2:
            continue
        ax, ay, az = screen_V3[a, 0], screen_V3[a, 1], screen_V3[a, 2]
        bx, by, bz = screen_V3[b, 0], screen_V3[b, 1], screen_V3[b, 2]
        cx, cy, cz = screen_V3[c, 0], screen_V3[c, 1], screen_V3[c, 2]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < 1e-9 or az <= 0 or bz <= 0 or cz <= 0:
            continue
        x0 = max(int(np.floor(min(ax, bx, cx) - 0.5)), 0)
        x1 = min(int(np.ceil(max(ax, bx, cx) + 0.5)), width)
        y0 = max(int(np.floor(min(ay, by, cy) - 0.5)), 0)
        y1 = min(int(np.ceil(max(ay, by, cy) + 0.5)), height)
        for y in range(y0, y1):
            for x in range(x0, x1):
                px, py = x + 0.5, y + 0.5
                wb = ((px - ax) * (cy - ay) - (py - ay) * (cx - ax)) / area
                wc = ((bx - ax) * (py - ay) - (by - ay) * (px - ax)) / area
                wa = 1 - wb - wc
                if wa < -1e-6 or wb < -1e-6 or wc < -1e-6:
                    continue
                inverse = wa / az + wb / bz + wc / cz
                z = 1 / inverse
                if z >= depth[y, x]:
                    continue
                pb, pc = wb / bz * z, wc / cz * z
                pa = 1 - pb - pc
                cut = pa * cut_V[a] + pb * cut_V[b] + pc * cut_V[c]
                if jitter_T[t] > 0:
                    rx = pa * rest_V3[a, 0] + pb * rest_V3[b, 0] + pc * rest_V3[c, 0]
                    ry = pa * rest_V3[a, 1] + pb * rest_V3[b, 1] + pc * rest_V3[c, 1]
                    rz = pa * rest_V3[a, 2] + pb * rest_V3[b, 2] + pc * rest_V3[c, 2]
                    cut += jitter_T[t] * (hash_noise(rx * 17, ry * 5, rz * 17) - 0.5)
                if cut < 0:
                    continue
                depth[y, x] = z
                triangle[y, x] = t
                weights[y, x, 0] = pb
                weights[y, x, 1] = pc
    return triangle, weights, depth


@compiled
def vertex_normals(positions_V3, triangles_T3):
    """Area-weighted unit normals of a triangle mesh, (V, 3)."""
    normals = np.zeros_like(positions_V3)
    for t in range(triangles_T3.shape[0]):
        a, b, c = triangles_T3[t, 0], triangles_T3[t, 1], triangles_T3[t, 2]
        ux, uy, uz = (
            positions_V3[b, 0] - positions_V3[a, 0],
            positions_V3[b, 1] - positions_V3[a, 1],
            positions_V3[b, 2] - positions_V3[a, 2],
        )
        vx, vy, vz = (
            positions_V3[c, 0] - positions_V3[a, 0],
            positions_V3[c, 1] - positions_V3[a, 1],
            positions_V3[c, 2] - positions_V3[a, 2],
        )
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for v in (a, b, c):
            normals[v, 0] += nx
            normals[v, 1] += ny
            normals[v, 2] += nz
    for v in range(normals.shape[0]):
        length = np.sqrt(normals[v, 0] ** 2 + normals[v, 1] ** 2 + normals[v, 2] ** 2) + 1e-12
        for k in range(3):
            normals[v, k] /= length
    return normals
