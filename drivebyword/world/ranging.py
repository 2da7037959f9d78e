"""LiDAR, radar and line of sight: the table of solids in, ranges out.

As in kernel.py a column is a vertical half-plane: each solid is cut once, all beams are answered from that cut.
"""

from __future__ import annotations

from math import cos, exp, hypot, pi, sin, sqrt
from typing import no_type_check

import numpy as np

from drivebyword.world.angles import BEARING_ERROR, bearing, half_width
from drivebyword.world.jit import leaf, outer
from drivebyword.world.noise import normal, uniform
from drivebyword.world.solids import (
    CAR_BODY,
    COS,
    CX,
    CY,
    ELLIPSOID,
    HL,
    HL2,
    HW,
    HW2,
    LAMP,
    OWNER,
    OX,
    RAD,
    REFL,
    SHADER,
    SHADOW,
    SHAPE,
    SIN,
    TAPERED,
    Z0,
    Z1,
)

CALLED = "d1e0e957276d"  # Content of the files compiled in; a test says what to write (numba's cache cannot see them).
PARTS = 3
"""Rays cast across one column's azimuth step; it answers with the nearest, so that slim things are not missed."""


@leaf
@no_type_check
def cut(f, shape, x, y, dirx, diry, beam):  # type: ignore[no-untyped-def]
    """Cut a ray of half-width `beam` rad with an outline: entry, exit, face (0 front .. 3 right); entry < 0: miss."""
    px, py = x - f[CX], y - f[CY]
    cs, sn = f[COS], f[SIN]
    if beam > 0.0 and f[HL] < 0.4 and f[HW] < 0.4:
        along, aside = -(px * dirx + py * diry), abs(py * dirx - px * diry)
        if along < 0.3 or aside > max(f[HL], f[HW]) + along * beam:
            return -1.0, -1.0, 0
        return along - min(f[HL], f[HW]), along + min(f[HL], f[HW]), 0
    if shape == ELLIPSOID:
        along, aside = -(px * dirx + py * diry), -(py * dirx - px * diry)
        if abs(aside) >= f[HL]:
            return -1.0, -1.0, 0
        half = sqrt(f[HL] * f[HL] - aside * aside)
        return along - half, along + half, 0
    hl, hw, shift = f[HL], f[HW], 0.0
    if shape == TAPERED:
        # Halfway up stands for the whole: a few centimetres for a car's glass.
        hl, hw, shift = 0.5 * (hl + f[HL2]), 0.5 * (hw + f[HW2]), 0.5 * f[OX]
    ox, oy = px * cs + py * sn, py * cs - px * sn
    dx, dy = dirx * cs + diry * sn, diry * cs - dirx * sn
    dx = dx if abs(dx) > 1e-9 else 1e-9
    dy = dy if abs(dy) > 1e-9 else 1e-9
    a, b = (-hl + shift - ox) / dx, (hl + shift - ox) / dx
    c, d = (-hw - oy) / dy, (hw - oy) / dy
    x_in, x_out, y_in, y_out = min(a, b), max(a, b), min(c, d), max(c, d)
    out = min(x_out, y_out)
    enter = max(x_in, y_in)
    if enter >= out:
        return -1.0, -1.0, 0
    if x_in > y_in:
        return enter, out, 1 if dx > 0 else 0
    return enter, out, 3 if dy > 0 else 2


@leaf
@no_type_check
def columns_of(f, x, y, cs, sn, high, columns, span):  # type: ignore[no-untyped-def]
    """Return the columns a solid may show in: first and last, unwrapped (may pass the array's ends).

    `cs` and `sn` are of the sensor's yaw; column 0 begins `high` radians to its left.
    """
    px, py = f[CX] - x, f[CY] - y
    distance = sqrt(px * px + py * py)
    if distance <= f[RAD] + 0.01:
        return 0, columns - 1
    azimuth = bearing(py * cs - px * sn, px * cs + py * sn)
    spread = half_width(f[RAD] / distance) + BEARING_ERROR
    per = columns / span
    return int(np.floor((high - azimuth - spread) * per)), int(np.floor((high - azimuth + spread) * per))


@leaf
@no_type_check
def aim(out, left, step):  # type: ignore[no-untyped-def]
    """Fill in the unit vectors of every column's rays, from the azimuth `left` on to the right."""
    for col in range(out.shape[0]):
        for part in range(PARTS):
            azimuth = left - (col + (part + 0.5) / PARTS) * step
            out[col, part, 0], out[col, part, 1] = cos(azimuth), sin(azimuth)


@leaf
@no_type_check
def _blend(f, code, face, u, z, base):  # type: ignore[no-untyped-def]
    """Return a solid's LiDAR intensity at a place of its face: plates and lamps throw much back."""
    if code[SHADER] == CAR_BODY and face <= 1:
        if abs(u) < 0.3 and f[Z0] + 0.15 < z < f[Z0] + 0.42:
            return 1.0
        if abs(u) > 0.5 * f[HW]:
            return 0.8
    return base


@outer
@no_type_check
def lidar(out, pose, slopes, range_max, order, floats, codes, base, palette, mips, levels, origin, inv_visibility, key):  # type: ignore[no-untyped-def]
    """Fill out (beams, columns, 2) with range and intensity. Beam 0 is the lowest; column 0 looks back left.

    Args:
        out: Ranges in metres (0 no return) and intensities.
        pose: x, y, z, yaw of the LiDAR in the map frame.
        slopes: Rise over horizontal distance of every beam.
        range_max: Metres.
        order, floats, codes: The table of solids: rows nearest first, their numbers and codes.
        base, palette, mips, levels, origin: The ground, as in `kernel.render`.
        inv_visibility: 1 / fog visibility in metres.
        key: Noise key.
    """
    beams, columns = out.shape[0], out.shape[1]
    near, shine = np.full((columns, beams), 1e9), np.zeros((columns, beams))
    towards = np.empty((columns, PARTS, 2))
    _scan(near, shine, towards, pose, slopes, range_max, order, floats, codes)
    _answer(out, near, shine, pose, slopes, range_max, base, palette, origin, inv_visibility, key)


@leaf
@no_type_check
def _scan(near, shine, towards, pose, slopes, range_max, order, floats, codes):  # type: ignore[no-untyped-def]
    """Find the nearest solid of every ray: its horizontal distance, and how bright it is."""
    columns, beams = near.shape
    x, y, z, yaw = pose
    step = 2 * pi / columns
    aim(towards, yaw + pi, step)
    cs, sn = cos(yaw), sin(yaw)
    for j in range(order.shape[0]):
        p = order[j]
        f, shape, shader = floats[p], codes[p, SHAPE], codes[p, SHADER]
        if shape == SHADOW or shader == LAMP:
            continue
        dx, dy = f[CX] - x, f[CY] - y
        if sqrt(dx * dx + dy * dy) - f[RAD] > range_max:
            continue
        first, last = columns_of(f, x, y, cs, sn, pi, columns, 2 * pi)
        for at in range(first, last + 1):
            col = at % columns
            for part in range(PARTS):
                dirx, diry = towards[col, part, 0], towards[col, part, 1]
                enter, leave, face = cut(f, shape, x, y, dirx, diry, 0.5 * step / PARTS)
                if enter < 0.05 or enter > range_max:
                    continue
                foot, top = f[Z0] - z, f[Z1] - z
                lowest = foot / (enter if foot < 0.0 else leave)
                highest = top / (leave if top < 0.0 else enter)
                for beam in range(beams):
                    slope = slopes[beam]
                    if slope < lowest or slope > highest or enter >= near[col, beam]:
                        continue
                    flat, high = enter, slope * enter
                    if high > top:
                        flat = top / slope
                    elif high < foot:
                        flat = foot / slope
                    if flat < near[col, beam]:
                        near[col, beam] = flat
                        hx, hy = x + enter * dirx - f[CX], y + enter * diry - f[CY]
                        u = hy * f[COS] - hx * f[SIN]
                        shine[col, beam] = _blend(f, codes[p], face, u, z + high, f[REFL])


@leaf
@no_type_check
def _answer(out, near, shine, pose, slopes, range_max, base, palette, origin, inv_visibility, key):  # type: ignore[no-untyped-def]
    """Turn solids and ground into what comes back: noise, drop-outs, droplets."""
    beams, columns = out.shape[0], out.shape[1]
    x, y, z, yaw = pose
    step = 2 * pi / columns
    for col in range(columns):
        azimuth = yaw + pi - (col + 0.5) * step
        dirx, diry = cos(azimuth), sin(azimuth)
        for beam in range(beams):
            slope = slopes[beam]
            flat, bright = near[col, beam], shine[col, beam]
            if slope < -1e-4 and -z / slope < flat:
                flat = -z / slope
                fx, fy = (x + flat * dirx - origin[0]) / origin[2], (y + flat * diry - origin[1]) / origin[2]
                ix, iy = int(fx), int(fy)
                bright = 0.35
                if fx >= 0 and fy >= 0 and ix < base.shape[1] and iy < base.shape[0]:
                    bright = (palette[base[iy, ix]] >> 24) / 255.0
            slant = sqrt(1.0 + slope * slope)
            reach = flat * slant
            index = (col * beams + beam) * 4
            # Fog eats light both ways; far and dark returns get lost first.
            clear = exp(-reach * inv_visibility)
            heard = clear * clear * (0.35 + 0.65 * bright)
            lost = 0.002 + 0.10 * (reach / range_max) ** 2 + 0.9 * max(0.0, 1.0 - heard * 4.0)
            if reach >= range_max or uniform(key, index) < lost:
                out[beam, col, 0] = 0.0
                out[beam, col, 1] = 0.0
                # Droplets close by answer now and then.
                if inv_visibility > 0.008 and uniform(key, index + 1) < inv_visibility:
                    out[beam, col, 0] = np.round((2.0 + 8.0 * uniform(key, index + 2)) * 64.0) / 64.0
                    out[beam, col, 1] = 0.05
                continue
            noisy = reach + 0.02 * normal(key, index + 1)
            out[beam, col, 0] = np.round(noisy * 64.0) / 64.0
            lit = bright * clear * (1.0 + 0.08 * normal(key, index + 2)) + 0.01 * normal(key, index + 3)
            out[beam, col, 1] = np.round(min(max(lit, 0.0), 1.0) * 255.0) / 255.0


@outer
@no_type_check
def line_of_sight(out, x, y, z, reach, agents, order, floats, codes):  # type: ignore[no-untyped-def]
    """Tell for every agent whether a ray from (x, y, z) reaches its middle or one of its sides."""
    _look(out, np.empty(order.shape[0], np.int64), x, y, z, reach, agents, order, floats, codes)


@leaf
@no_type_check
def _look(out, blockers, x, y, z, reach, agents, order, floats, codes):  # type: ignore[no-untyped-def]
    """Fill in who is seen; `blockers` is scratch."""
    n = 0
    for j in range(order.shape[0]):
        p = order[j]
        f = floats[p]
        solid = codes[p, SHAPE] != SHADOW and f[Z1] > 0.9 and f[HL] + f[HW] > 0.5
        if solid and hypot(f[CX] - x, f[CY] - y) - f[RAD] < reach:
            blockers[n] = p
            n += 1
    for k in range(agents.shape[0]):
        out[k] = False
        dx, dy = agents[k, 0] - x, agents[k, 1] - y
        distance = hypot(dx, dy)
        if distance > reach:
            continue
        cs, sn = dx / max(distance, 1e-6), dy / max(distance, 1e-6)
        half = 0.42 * (abs(cos(agents[k, 2]) * sn - sin(agents[k, 2]) * cs) * agents[k, 3]
                       + abs(cos(agents[k, 2]) * cs + sin(agents[k, 2]) * sn) * agents[k, 4])  # fmt: skip
        for side in (0.0, 1.0, -1.0):
            tx, ty = dx - side * half * sn, dy + side * half * cs
            far = hypot(tx, ty)
            dirx, diry = tx / max(far, 1e-6), ty / max(far, 1e-6)
            free = True
            for j in range(n):
                p = blockers[j]
                f = floats[p]
                if codes[p, OWNER] == k:
                    continue
                px, py = f[CX] - x, f[CY] - y
                along = px * dirx + py * diry
                if along < -f[RAD] or along - f[RAD] > far or abs(py * dirx - px * diry) > f[RAD]:
                    continue
                enter, _, _ = cut(f, codes[p, SHAPE], x, y, dirx, diry, 0.0)
                if 0.0 < enter < far - 0.5:
                    high = z + (0.6 * agents[k, 5] - z) * enter / far
                    if f[Z0] <= high <= f[Z1]:
                        free = False
                        break
            if free:
                out[k] = True
                break
