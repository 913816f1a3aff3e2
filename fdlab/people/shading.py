"""Light on surfaces: every pixel's colour, lit by a key light with shadow, the sky, the ground and a rim.

Colours are linear RGB. Axes: H W pixels, P people, V vertices, T triangles.
"""

from __future__ import annotations

import numpy as np

from fdlab.people.compiled import compiled
from fdlab.people.materials import CURL, EYE0, FRAME0, HAIR0, HAT0, NUMBER, SCARF0, cloth, eye, skin, step
from fdlab.people.raster import hash_noise


@compiled
def _between(values_VD, corners, weights):
    """The first three values at a point of a triangle."""
    ia, ib, ic = corners
    wa, wb, wc = weights
    x = wa * values_VD[ia, 0] + wb * values_VD[ib, 0] + wc * values_VD[ic, 0]
    y = wa * values_VD[ia, 1] + wb * values_VD[ib, 1] + wc * values_VD[ic, 1]
    z = wa * values_VD[ia, 2] + wb * values_VD[ib, 2] + wc * values_VD[ic, 2]
    return x, y, z


@compiled
def _unit(x, y, z):
    length = np.sqrt(x * x + y * y + z * z) + 1e-9
    return x / length, y / length, z / length


@compiled
def _hair(color, q, rest, normal, occlusion, inside):
    """Colour hair; returns its normal, turned by strands."""
    x, y, z = rest
    nx, ny, nz = normal
    turn = np.arctan2(x, z - 0.15)
    if q[CURL] > 0:
        coarse, fine = hash_noise(x * 13, y * 13, z * 13), hash_noise(x * 30, y * 30, z * 30)
        strand = coarse * 0.7 + 0.3 * fine
        bump = hash_noise(x * 9 + 7, y * 9, z * 9) - 0.5
        nx, ny, nz = nx + 0.9 * bump, ny + 0.9 * (strand - 0.5), nz + 0.5 * bump
    else:
        coarse = hash_noise(turn * 16 + 40, y * 1.2 + z * 1.5, q[NUMBER])
        strand = 0.6 * coarse + 0.4 * hash_noise(turn * 42 + 90, y * 2, z * 2)
        nx, nz = (
            nx + 0.5 * (strand - 0.5) * np.cos(turn),
            nz - 0.5 * (strand - 0.5) * np.sin(turn),
        )
    for k in range(3):
        color[k] = q[HAIR0 + k] * (0.45 + 1.1 * strand) * (0.4 + 0.6 * occlusion) * inside
    return _unit(nx, ny, nz)


@compiled
def _paint(color, q, material, rest, paint):
    """Colour every material but hair; returns its gloss and how narrow its highlights are."""
    x, y, z = rest
    occlusion, lips, lids = paint
    gloss, power = 0.0, 18.0
    if material == 0:
        gloss = skin(color, q, x, y, z, occlusion, lips, lids)
    elif material == 1:
        eye(color, q, x, y, z)
        gloss, power = 2.6, 90.0
        # The upper lid throws a shadow on the ball.
        lid = 1 - 0.55 * step(q[EYE0 + 1] + 0.02, q[EYE0 + 1] + 0.12, y)
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
    elif material == 6:
        cloth(color, q, x, y, z)
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
    return gloss, power


@compiled
def _lit(position, normal, view, shadow_HW):
    """Share of the key light that arrives, soft-edged, read from the light's own depth map."""
    px, py, pz = position
    nx, ny, nz = normal
    # Looked up a little above the surface, or a surface would shade itself in stripes.
    ax, ay, az = px + 0.07 * nx, py + 0.07 * ny, pz + 0.07 * nz
    sx = view[0, 0] * ax + view[0, 1] * ay + view[0, 2] * az + view[0, 3]
    sy = view[1, 0] * ax + view[1, 1] * ay + view[1, 2] * az + view[1, 3]
    sz = view[2, 0] * ax + view[2, 1] * ay + view[2, 2] * az + view[2, 3]
    lit, taps = 0.0, 0
    for oy in range(-1, 2):
        for ox in range(-1, 2):
            cx, cy = int(sx + ox * 1.3), int(sy + oy * 1.3)
            if 0 <= cx < shadow_HW.shape[1] and 0 <= cy < shadow_HW.shape[0]:
                lit += 1.0 if sz < shadow_HW[cy, cx] + 0.14 else 0.0
                taps += 1
    return lit / taps if taps else 1.0


@compiled
def _shine(q, material, normal, half, gloss, power, lit, toward):
    """The key light's highlight; `half` is the direction between light and eye, not of unit length."""
    nx, ny, nz = normal
    hx, hy, hz = half
    hl = np.sqrt(hx * hx + hy * hy + hz * hz) + 1e-9
    if material == 5:
        # Hair shines across the strand (Kajiya and Kay 1989): the strand runs down along the surface.
        down = ny
        tx, ty, tz = -nx * down, 1 - ny * down, -nz * down
        tl = np.sqrt(tx * tx + ty * ty + tz * tz) + 1e-9
        along = (tx * hx + ty * hy + tz * hz) / (tl * hl)
        glint = 0.02 + 0.25 * (q[HAIR0] + q[HAIR0 + 1]) * (1 - 0.6 * q[CURL])
        return max(1 - along * along, 0.0) ** 22 * glint * lit * max(toward + 0.2, 0.0)
    mirrored = max((nx * hx + ny * hy + nz * hz) / hl, 0.0)
    return gloss * 0.06 * mirrored**power * lit * (2.0 if toward > 0 else 0.0)


@compiled
def shade(
    triangle_HW,
    weights_HW2,
    positions_V3,
    rest_V3,
    normals_V3,
    paint_V3,
    triangles_T3,
    material_T,
    person_T,
    people_PQ,
    light_K,
    shadow_HW,
    view,
    background_HW3,
):
    """Colour every pixel. Linear RGB (H, W, 3) and the person of each pixel (0 is background).

    light_K: key direction (3), key colour (3), sky (3), ground (3), rim (3).
    view: 3 x 4 map from world to the shadow map's pixels and depth.
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
            corners = triangles_T3[t, 0], triangles_T3[t, 1], triangles_T3[t, 2]
            wb, wc = weights_HW2[row, column, 0], weights_HW2[row, column, 1]
            weights = 1 - wb - wc, wb, wc
            rest = _between(rest_V3, corners, weights)
            position = _between(positions_V3, corners, weights)
            nx, ny, nz = _between(normals_V3, corners, weights)
            paint = _between(paint_V3, corners, weights)
            px, py, pz = position
            material = material_T[t]
            q = people_PQ[person_T[t]]
            who[row, column] = person_T[t] + 1
            distance = np.sqrt(px * px + py * py + pz * pz)
            vx, vy, vz = -px / distance, -py / distance, -pz / distance
            nx, ny, nz = _unit(nx, ny, nz)
            facing = nx * vx + ny * vy + nz * vz
            inside = 1.0
            if facing < 0:
                nx, ny, nz, facing = -nx, -ny, -nz, -facing
                inside = 0.35 if material == 5 else 0.6
            normal = nx, ny, nz
            gloss, power = 0.0, 18.0
            if material == 5:
                normal = _hair(color, q, rest, normal, paint[0], inside)
            else:
                gloss, power = _paint(color, q, material, rest, paint)
            nx, ny, nz = normal
            lx, ly, lz = light_K[0], light_K[1], light_K[2]
            lit = _lit(position, normal, view, shadow_HW)
            toward = nx * lx + ny * ly + nz * lz
            rim = (1 - facing) ** 3 * max(0.0, 0.5 - 0.5 * (nz * vz)) * 2
            half = lx + vx, ly + vy, lz + vz
            shine = _shine(q, material, normal, half, gloss, power, lit, toward)
            wrap = 0.28 if material == 0 else 0.12
            up = 0.5 + 0.5 * ny
            for k in range(3):
                soft = wrap * (1.6, 0.9, 0.7)[k]
                diffuse = max((toward + soft) / (1 + soft), 0.0)
                shadow = lit if k else lit + (1 - lit) * (0.08 if material == 0 else 0.0)
                light = light_K[3 + k] * diffuse * shadow + light_K[6 + k] * up + light_K[9 + k] * (1 - up)
                edge = light_K[12 + k] * rim * 0.35 * (0.05 + color[k])
                out[row, column, k] = color[k] * light + light_K[3 + k] * shine + edge
    return out, who
