"""Light on surfaces: for every pixel the material's colour, lit by a key light with shadow, the sky, the ground and a rim.

Colours are linear RGB. Axes: H W pixels, P people, V vertices, T triangles.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from fdlab.people.raster import hash_noise

PAINT = {"skin": 3, "lip": 3, "iris": 3, "hair": 3, "brow": 3, "beard": 1, "freckles": 1, "makeup": 1, "age": 1, "curl": 1,
         "shaved": 1, "cloth": 3, "second": 3, "pattern": 1, "garment": 1, "frame": 3, "hat": 3, "scarf": 3, "moles": 6,
         "gaze": 2, "eye": 3, "number": 1}  # fmt: skip
"""Layout of a person's paint vector: name and length, in order."""
_at = dict(zip(PAINT, np.cumsum([0, *PAINT.values()]).tolist(), strict=False))
SKIN0, LIP0, IRIS0, HAIR0, BROW0, BEARD, FRECKLES, MAKEUP, AGE, CURL, SHAVED, CLOTH0, SECOND0, PATTERN, GARMENT, FRAME0, \
    HAT0, SCARF0, MOLES0, GAZE0, EYE0, NUMBER = (_at[name] for name in PAINT)  # fmt: skip


def paint_vector(paint: dict[str, np.ndarray | float]) -> np.ndarray:
    """Lay a figure's paint out as one vector."""
    return np.concatenate([np.atleast_1d(np.asarray(paint[name], np.float32)) for name in PAINT]).astype(np.float32)


@njit(cache=True, nogil=True)
def _step(low, high, x):
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)


@njit(cache=True, nogil=True)
def _skin(color, q, x, y, z, occlusion, lips, lids):
    """Colour of skin at a point of the body at rest; returns how glossy it is."""
    side = abs(x)
    tone = 0.94 + 0.12 * hash_noise(x * 3 + q[NUMBER], y * 3, z * 3) + 0.05 * (hash_noise(x * 22, y * 22, z * 22) - 0.5)
    cheek = np.exp(-(((side - 0.52) / 0.24) ** 2) - ((y - 6.95) / 0.22) ** 2) * _step(0.7, 1.1, z)
    nose = np.exp(-((side / 0.16) ** 2) - ((y - 6.98) / 0.14) ** 2) * _step(1.4, 1.6, z)
    flush = 0.30 * cheek * (1 + q[MAKEUP]) + 0.22 * nose
    for k in range(3):
        color[k] = q[SKIN0 + k] * tone
    color[0] *= 1 + 0.10 * flush
    color[1] *= 1 - 0.42 * flush
    color[2] *= 1 - 0.36 * flush
    under = np.exp(-(((side - 0.30) / 0.15) ** 2) - ((y - 7.10) / 0.055) ** 2) * _step(1.0, 1.2, z)
    dark = 1 - under * (0.10 + 0.22 * q[AGE])
    if q[AGE] > 0.35:
        fold = np.exp(-(((side - 0.33 - 0.35 * (6.85 - y)) / 0.05) ** 2)) * _step(6.52, 6.62, y) * _step(7.0, 6.85, y)
        brow_lines = (0.5 + 0.5 * np.sin(y * 62 + 2 * x)) ** 6 * _step(7.6, 7.7, y) * _step(8.05, 7.95, y) * _step(0.8, 1.0, z)
        dark *= 1 - (q[AGE] - 0.35) * (0.30 * fold * _step(1.0, 1.2, z) + 0.10 * brow_lines)
    if q[FRECKLES] > 0:
        spot = hash_noise(x * 24, y * 24, z * 24)
        dark *= 1 - 0.40 * q[FRECKLES] * _step(0.66, 0.78, spot) * np.exp(-(((y - 6.98) / 0.22) ** 2)) * _step(0.8, 1.1, z)
    for m in range(3):
        dx, dy = x - q[MOLES0 + 2 * m], y - q[MOLES0 + 2 * m + 1]
        if z > 0.8:
            dark *= 1 - 0.75 * _step(0.05, 0.025, np.sqrt(dx * dx + dy * dy))
    for k in range(3):
        color[k] *= dark
    gloss = 0.55
    lip = _step(0.25, 0.6, lips)
    if lip > 0:
        for k in range(3):
            painted = q[LIP0 + k] * (1.0 - 0.35 * q[MAKEUP] * (0.2 if k == 0 else 1.0))
            color[k] += (painted - color[k]) * lip * 0.9
        gloss += 0.35 * lip
    lid = _step(0.3, 0.7, lids)
    shade = lid * (0.12 + 0.45 * q[MAKEUP])
    color[0] *= 1 - 0.8 * shade
    color[1] *= 1 - shade
    color[2] *= 1 - 0.8 * shade
    # Brows: an arched band on the bone above the eyes, made of short strokes.
    if z > 0.75 and 7.35 < y < 7.85:
        t = (side - 0.11) / 0.46
        if -0.05 < t < 1.08:
            arch = 7.520 + q[BROW0 + 2] + (0.03 + 0.05 * q[BROW0 + 1]) * np.sin(np.pi * min(max(t, 0.0), 1.0) ** 0.8) - 0.05 * t
            half = 0.052 * q[BROW0] ** 0.6 * (1 - 0.55 * max(t, 0.0))
            edge = (1 - _step(0.6, 1.15, abs(y - arch) / half)) * _step(-0.05, 0.05, t) * _step(1.08, 0.92, t)
            stroke = 0.75 + 0.5 * hash_noise(side * 45 + y * 18, y * 22, 3.0)
            cover = min(edge * stroke * min(0.75 + 0.2 * q[BROW0], 0.95), 0.96)
            for k in range(3):
                color[k] += (q[HAIR0 + k] * 0.55 - color[k]) * cover
            gloss *= 1 - 0.7 * cover
    kind = q[BEARD]
    if kind > 0 and z > 0.25:
        jaw = _step(6.12, 6.22, y + 0.05 * z) * _step(-0.2, 0.1, (0.62 + 0.95 * (side - 0.35)) * 1.0 + 6.25 - y + 0.35)
        mouth = 1 - np.exp(-((side / 0.30) ** 4) - ((y - 6.60) / 0.105) ** 4)
        upper = np.exp(-((side / 0.36) ** 4) - ((y - 6.80 + 0.10 * side) / 0.065) ** 4) * _step(1.2, 1.35, z)
        chin = np.exp(-((side / 0.34) ** 4)) * _step(6.12, 6.2, y) * _step(6.62, 6.5, y) * _step(0.95, 1.1, z)
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
        gloss *= 1 - 0.8 * cover
    for k in range(3):
        # Light that enters skin comes out redder where little sky is seen.
        color[k] *= occlusion ** (0.75, 1.15, 1.25)[k] if k else occlusion**0.75
    return gloss


@njit(cache=True, nogil=True)
def _eye(color, q, x, y, z):
    sign = 1.0 if x > 0 else -1.0
    dx, dy, dz = x - sign * q[EYE0], y - q[EYE0 + 1], z - q[EYE0 + 2]
    length = np.sqrt(dx * dx + dy * dy + dz * dz) + 1e-9
    gx, gy = np.sin(q[GAZE0]), np.sin(q[GAZE0 + 1])
    gz = np.sqrt(max(1 - gx * gx - gy * gy, 0.0))
    angle = np.degrees(np.arccos(min(max((dx * gx + dy * gy + dz * gz) / length, -1.0), 1.0)))
    white = (0.78, 0.74, 0.71)
    pupil = _step(11.5, 14.0, angle)
    iris = _step(28.0, 32.0, angle)
    ring = 0.45 + 0.55 * _step(31.0, 24.0, angle)
    spokes = 0.8 + 0.4 * hash_noise(np.arctan2(dy, dx) * 9, angle * 0.12, 1.0)
    for k in range(3):
        inner = (0.006 + (q[IRIS0 + k] * 1.5 * ring * spokes - 0.006) * pupil)
        color[k] = inner + (white[k] - inner) * iris
    return angle


@njit(cache=True, nogil=True)
def _cloth(color, q, x, y, z):
    kind, pattern = q[GARMENT], q[PATTERN]
    second = 0.0
    if pattern == 1:
        second = _step(0.42, 0.5, abs((y * 2.3) % 1 - 0.5) * 2 * 0.9)
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
        opening = 0.10 + 0.30 * _step(4.0, 5.7, y)
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


@njit(cache=True, nogil=True)
def shade(triangle_HW, weights_HW2, depth_HW, positions_V3, rest_V3, normals_V3, paint_V3, triangles_T3, material_T, person_T,
          people_PQ, light_K, shadow_HW, shadow_view, focal, background_HW3):
    """Colour every pixel. Linear RGB (H, W, 3) and the person of each pixel (0 is background).

    light_K: key direction (3), key colour (3), sky (3), ground (3), rim (3).
    shadow_view: 3 x 4 map from world to the shadow map's pixels and depth.
    """
    height, width = triangle_HW.shape
    out = background_HW3.copy()
    who = np.zeros((height, width), np.uint8)
    color = np.zeros(3)
    for row in range(height):
        for column in range(width):
            t = triangle_HW[row, column]
            if t < 0:
                continue
            ia, ib, ic = triangles_T3[t, 0], triangles_T3[t, 1], triangles_T3[t, 2]
            wb, wc = weights_HW2[row, column, 0], weights_HW2[row, column, 1]
            wa = 1 - wb - wc
            x = wa * rest_V3[ia, 0] + wb * rest_V3[ib, 0] + wc * rest_V3[ic, 0]
            y = wa * rest_V3[ia, 1] + wb * rest_V3[ib, 1] + wc * rest_V3[ic, 1]
            z = wa * rest_V3[ia, 2] + wb * rest_V3[ib, 2] + wc * rest_V3[ic, 2]
            px = wa * positions_V3[ia, 0] + wb * positions_V3[ib, 0] + wc * positions_V3[ic, 0]
            py = wa * positions_V3[ia, 1] + wb * positions_V3[ib, 1] + wc * positions_V3[ic, 1]
            pz = wa * positions_V3[ia, 2] + wb * positions_V3[ib, 2] + wc * positions_V3[ic, 2]
            nx = wa * normals_V3[ia, 0] + wb * normals_V3[ib, 0] + wc * normals_V3[ic, 0]
            ny = wa * normals_V3[ia, 1] + wb * normals_V3[ib, 1] + wc * normals_V3[ic, 1]
            nz = wa * normals_V3[ia, 2] + wb * normals_V3[ib, 2] + wc * normals_V3[ic, 2]
            occlusion = wa * paint_V3[ia, 0] + wb * paint_V3[ib, 0] + wc * paint_V3[ic, 0]
            lips = wa * paint_V3[ia, 1] + wb * paint_V3[ib, 1] + wc * paint_V3[ic, 1]
            lids = wa * paint_V3[ia, 2] + wb * paint_V3[ib, 2] + wc * paint_V3[ic, 2]
            material = material_T[t]
            q = people_PQ[person_T[t]]
            who[row, column] = person_T[t] + 1
            distance = np.sqrt(px * px + py * py + pz * pz)
            vx, vy, vz = -px / distance, -py / distance, -pz / distance
            length = np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
            nx, ny, nz = nx / length, ny / length, nz / length
            facing = nx * vx + ny * vy + nz * vz
            inside = 1.0
            if facing < 0:
                nx, ny, nz, facing = -nx, -ny, -nz, -facing
                inside = 0.35 if material == 5 else 0.6
            gloss, power, wrap = 0.0, 18.0, 0.12
            if material == 0:
                wrap = 0.28
                gloss = _skin(color, q, x, y, z, occlusion, lips, lids)
                inside = max(inside, 0.8)
            elif material == 1:
                _eye(color, q, x, y, z)
                gloss, power = 2.6, 90.0
                # The upper lid throws a shadow on the ball.
                lid = 1 - 0.55 * _step(q[EYE0 + 1] + 0.02, q[EYE0 + 1] + 0.12, y)
                for k in range(3):
                    color[k] *= lid * (0.35 + 0.65 * occlusion)
            elif material == 2:
                for k in range(3):
                    color[k] = (0.62, 0.58, 0.50)[k] * (0.35 + 0.65 * occlusion)
                gloss = 0.6
            elif material == 3:
                for k in range(3):
                    color[k] = (0.30, 0.08, 0.07)[k] * (0.3 + 0.7 * occlusion)
            elif material == 4:
                for k in range(3):
                    color[k] = 0.012
            elif material == 5:
                dx, dy, dz = x, y - 7.3, z - 0.15
                turn = np.arctan2(dx, dz)
                if q[CURL] > 0:
                    strand = hash_noise(x * 13, y * 13, z * 13) * 0.7 + 0.3 * hash_noise(x * 30, y * 30, z * 30)
                    bump = hash_noise(x * 9 + 7, y * 9, z * 9) - 0.5
                    nx, ny, nz = nx + 0.9 * bump, ny + 0.9 * (strand - 0.5), nz + 0.5 * bump
                else:
                    strand = 0.6 * hash_noise(turn * 16 + 40, y * 1.2 + z * 1.5, q[NUMBER]) + 0.4 * hash_noise(turn * 42 + 90, y * 2, z * 2)
                    nx, nz = nx + 0.5 * (strand - 0.5) * np.cos(turn), nz - 0.5 * (strand - 0.5) * np.sin(turn)
                length = np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
                nx, ny, nz = nx / length, ny / length, nz / length
                for k in range(3):
                    color[k] = q[HAIR0 + k] * (0.45 + 1.1 * strand) * (0.4 + 0.6 * occlusion) * inside
            elif material == 6:
                _cloth(color, q, x, y, z)
                for k in range(3):
                    color[k] *= occlusion
                gloss = 0.05
            elif material == 7:
                for k in range(3):
                    color[k] = q[FRAME0 + k]
                gloss, power = 1.2, 50.0
            else:
                base = HAT0 if material == 8 else SCARF0
                turn = np.arctan2(x, z - 0.15)
                rib = 0.72 + 0.34 * abs(np.sin(turn * 26 + (0.0 if material == 8 else y * 8)))
                for k in range(3):
                    color[k] = q[base + k] * rib * (0.5 + 0.5 * occlusion)
            # Key light, with a soft-edged shadow read from the light's own depth map.
            lx, ly, lz = light_K[0], light_K[1], light_K[2]
            # Looked up a little above the surface, or a surface would shade itself in stripes.
            ox3, oy3, oz3 = px + 0.07 * nx, py + 0.07 * ny, pz + 0.07 * nz
            sx = shadow_view[0, 0] * ox3 + shadow_view[0, 1] * oy3 + shadow_view[0, 2] * oz3 + shadow_view[0, 3]
            sy = shadow_view[1, 0] * ox3 + shadow_view[1, 1] * oy3 + shadow_view[1, 2] * oz3 + shadow_view[1, 3]
            sz = shadow_view[2, 0] * ox3 + shadow_view[2, 1] * oy3 + shadow_view[2, 2] * oz3 + shadow_view[2, 3]
            lit, taps = 0.0, 0
            for oy in range(-1, 2):
                for ox in range(-1, 2):
                    cx, cy = int(sx + ox * 1.3), int(sy + oy * 1.3)
                    if 0 <= cx < shadow_HW.shape[1] and 0 <= cy < shadow_HW.shape[0]:
                        lit += 1.0 if sz < shadow_HW[cy, cx] + 0.14 else 0.0
                        taps += 1
            lit = lit / taps if taps else 1.0
            toward = nx * lx + ny * ly + nz * lz
            rim = (1 - facing) ** 3 * max(0.0, 0.5 - 0.5 * (nz * vz)) * 2
            hx, hy, hz = lx + vx, ly + vy, lz + vz
            hl = np.sqrt(hx * hx + hy * hy + hz * hz) + 1e-9
            if material == 5:
                # Hair shines across the strand (Kajiya and Kay 1989): the strand runs down along the surface.
                down = ny
                tx, ty, tz = -nx * down, 1 - ny * down, -nz * down
                tl = np.sqrt(tx * tx + ty * ty + tz * tz) + 1e-9
                along = (tx * hx + ty * hy + tz * hz) / (tl * hl)
                glint = 0.02 + 0.25 * (q[HAIR0] + q[HAIR0 + 1]) * (1 - 0.6 * q[CURL])
                shine = max(1 - along * along, 0.0) ** 22 * glint * lit * max(toward + 0.2, 0.0)
            else:
                shine = gloss * 0.06 * max((nx * hx + ny * hy + nz * hz) / hl, 0.0) ** power * lit * (2.0 if toward > 0 else 0.0)
            up = 0.5 + 0.5 * ny
            for k in range(3):
                soft = wrap * (1.6, 0.9, 0.7)[k]
                diffuse = max((toward + soft) / (1 + soft), 0.0)
                shadow = lit if k else lit + (1 - lit) * (0.08 if material == 0 else 0.0)
                light = light_K[3 + k] * diffuse * shadow + light_K[6 + k] * up + light_K[9 + k] * (1 - up)
                out[row, column, k] = color[k] * light + light_K[3 + k] * shine + light_K[12 + k] * rim * 0.35 * (0.05 + color[k])
    return out, who
