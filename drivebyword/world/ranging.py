"""LiDAR, radar and line of sight: the table of solids in, ranges out.

As in kernel.py a column is a vertical half-plane: each solid is cut once, all beams are answered from that cut.
"""

from __future__ import annotations

from math import atan2, cos, exp, hypot, log10, pi, sin, sqrt
from typing import no_type_check

import numba as nb
import numpy as np

from drivebyword.world.noise import normal, uniform
from drivebyword.world.solids import (
    CAR_BODY,
    COS,
    CX,
    CY,
    ELLIPSOID,
    FACADE,
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

CALLED = "0f3549e9528b"  # Content of the files compiled in; a test says what to write (numba's cache cannot see them).
PARTS = 3
"""Rays cast across one column's azimuth step; it answers with the nearest, so that slim things are not missed."""
_jit = nb.njit(cache=True, nogil=True, error_model="numpy")


@_jit
@no_type_check
def _cut(f, shape, x, y, dirx, diry, beam):  # type: ignore[no-untyped-def]
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


@_jit
@no_type_check
def _columns(f, x, y, yaw, low, high, columns, span):  # type: ignore[no-untyped-def]
    """Return the columns a solid may show in: first and last, unwrapped (may pass the array's ends)."""
    px, py = f[CX] - x, f[CY] - y
    distance = hypot(px, py)
    if distance <= f[RAD] + 0.01:
        return 0, columns - 1
    azimuth = (atan2(py, px) - yaw + pi) % (2 * pi) - pi
    spread = np.arcsin(f[RAD] / distance)
    per = columns / span
    return int(np.floor((high - azimuth - spread) * per)), int(np.floor((high - azimuth + spread) * per))


@_jit
@no_type_check
def _directions(left, step, columns):  # type: ignore[no-untyped-def]
    """Return the unit vectors of every column's rays, from the azimuth `left` on to the right."""
    out = np.empty((columns, PARTS, 2))
    for col in range(columns):
        for part in range(PARTS):
            azimuth = left - (col + (part + 0.5) / PARTS) * step
            out[col, part, 0], out[col, part, 1] = cos(azimuth), sin(azimuth)
    return out


@_jit
@no_type_check
def _blend(f, code, face, u, z, base):  # type: ignore[no-untyped-def]
    """Return a solid's LiDAR intensity at a place of its face: plates and lamps throw much back."""
    if code[SHADER] == CAR_BODY and face <= 1:
        if abs(u) < 0.3 and f[Z0] + 0.15 < z < f[Z0] + 0.42:
            return 1.0
        if abs(u) > 0.5 * f[HW]:
            return 0.8
    return base


@_jit
@no_type_check
def lidar(
    out, pose, slopes, range_max, order, count, floats, codes, base, palette, mips, levels, origin, inv_visibility, key
):  # type: ignore[no-untyped-def]
    """Fill out (beams, columns, 2) with range and intensity. Beam 0 is the lowest; column 0 looks back left.

    Args:
        out: Ranges in metres (0 no return) and intensities.
        pose: x, y, z, yaw of the LiDAR in the map frame.
        slopes: Rise over horizontal distance of every beam.
        range_max: Metres.
        order, count, floats, codes: The table of solids: rows nearest first, how many, their numbers and codes.
        base, palette, mips, levels, origin: The ground, as in `kernel.render`.
        inv_visibility: 1 / fog visibility in metres.
        key: Noise key.
    """
    beams, columns = out.shape[0], out.shape[1]
    x, y, z, yaw = pose
    near = np.full((columns, beams), 1e9)
    shine = np.zeros((columns, beams))
    step = 2 * pi / columns
    towards = _directions(yaw + pi, step, columns)
    for j in range(count):
        p = order[j]
        f, shape, shader = floats[p], codes[p, SHAPE], codes[p, SHADER]
        if shape == SHADOW or shader == LAMP:
            continue
        if hypot(f[CX] - x, f[CY] - y) - f[RAD] > range_max:
            continue
        first, last = _columns(f, x, y, yaw, -pi, pi, columns, 2 * pi)
        for at in range(first, last + 1):
            col = at % columns
            for part in range(PARTS):
                dirx, diry = towards[col, part, 0], towards[col, part, 1]
                enter, leave, face = _cut(f, shape, x, y, dirx, diry, 0.5 * step / PARTS)
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
            heard = exp(-2.0 * reach * inv_visibility) * (0.35 + 0.65 * bright)
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
            lit = bright * exp(-reach * inv_visibility) * (1.0 + 0.08 * normal(key, index + 2)) + 0.01 * normal(
                key, index + 3
            )
            out[beam, col, 1] = np.round(min(max(lit, 0.0), 1.0) * 255.0) / 255.0


# Mean radar cross-section of every AgentKind, dBsm.
RCS_DBSM = np.array([10.0, 12.0, 18.0, 20.0, 0.0, -3.0, 3.0, -12.0, 2.0, 2.0, -5.0, -4.0, -3.0, -3.0])


@_jit
@no_type_check
def radar(
    out,
    valid,
    pose,
    velocity,
    fov,
    columns,
    slopes,
    range_max,
    order,
    count,
    floats,
    codes,
    agents,
    kinds,
    inv_visibility,
    key,
):  # type: ignore[no-untyped-def]
    """Fill out (detections, 4) with the nearest detections, and their valid mask.

    Road users answer as one detection each, from all cells they fill; walls only where the ray meets them nearly
    square, as radar is mirrored away otherwise; posts weakly.

    Args:
        out: Range, azimuth, range rate, RCS.
        valid: Which rows are detections.
        pose: x, y, z, yaw of the radar in the map frame.
        velocity: Its own velocity, map frame.
        fov: Horizontal field of view in radians.
        columns: Rays across.
        slopes: Rise over horizontal distance of every row of rays.
        range_max: Metres.
        order, count, floats, codes: The table of solids: rows nearest first, how many, their numbers and codes.
        agents, kinds: Road users, for their velocities, and their AgentKind.
        inv_visibility: 1 / fog visibility in metres.
        key: Noise key.
    """
    x, y, z, yaw = pose
    rows, limit = slopes.shape[0], out.shape[0]
    near = np.full((columns, rows), 1e9)
    what = np.full((columns, rows), -1)
    per, half = fov / columns, fov / 2
    towards = _directions(yaw + half, per, columns)
    for j in range(count):
        p = order[j]
        f, shape = floats[p], codes[p, SHAPE]
        if shape == SHADOW or (shape == ELLIPSOID and codes[p, OWNER] < 0):
            continue
        if hypot(f[CX] - x, f[CY] - y) - f[RAD] > range_max:
            continue
        first, last = _columns(f, x, y, yaw, -half, half, columns, fov)
        for col in range(max(first, 0), min(last, columns - 1) + 1):
            for part in range(PARTS):
                dirx, diry = towards[col, part, 0], towards[col, part, 1]
                enter, _, face = _cut(f, shape, x, y, dirx, diry, 0.5 * per / PARTS)
                if enter < 0.05 or enter > range_max:
                    continue
                axis = 0.0 if face <= 1 else 1.0
                square = abs(
                    dirx * (f[COS] * (1 - axis) - f[SIN] * axis) + diry * (f[SIN] * (1 - axis) + f[COS] * axis)
                )
                for row in range(rows):
                    high = z + slopes[row] * enter
                    if f[Z0] <= high <= f[Z1] and enter < near[col, row]:
                        near[col, row] = enter
                        mirrored = codes[p, OWNER] < 0 and f[HL] > 0.5 and square < 0.985
                        what[col, row] = -2 if mirrored else p
    found = np.empty((columns * rows + 4, 4))
    n = 0
    seen = np.full(max(agents.shape[0], 1) + count, -1)
    for col in range(columns):
        for row in range(rows):
            p = what[col, row]
            if p < 0:
                continue
            owner = codes[p, OWNER]
            slot = owner if owner >= 0 else max(agents.shape[0], 1) + p
            k = seen[slot]
            azimuth = half - (col + 0.5) * per
            if k < 0:
                found[n, 0], found[n, 1], found[n, 2], found[n, 3] = near[col, row], azimuth, 1.0, slot
                seen[slot] = n
                n += 1
            else:
                found[k, 0] = min(found[k, 0], near[col, row])
                found[k, 1] += azimuth
                found[k, 2] += 1.0
    hits = np.empty((n + 2, 4))
    m = 0
    for k in range(n):
        slot = int(found[k, 3])
        owner = slot if slot < max(agents.shape[0], 1) else -1
        azimuth = found[k, 1] / found[k, 2]
        dirx, diry = cos(yaw + azimuth), sin(yaw + azimuth)
        rate = -(velocity[0] * dirx + velocity[1] * diry)
        if owner >= 0:
            rate += agents[owner, 6] * dirx + agents[owner, 7] * diry
            rcs = RCS_DBSM[kinds[owner]]
        else:
            p = slot - max(agents.shape[0], 1)
            rcs = 14.0 if codes[p, SHADER] == FACADE else -2.0
        index = 16 + slot * 8
        rcs += 2.5 * normal(key, index)
        # Signal over noise falls with the fourth power of range; water takes 0.01 dB a metre in thick fog.
        margin = (
            rcs
            + 46.0
            - 40.0 * log10(max(found[k, 0], 1.0) / 10.0)
            - 2.0 * found[k, 0] * min(inv_visibility, 0.05) * 0.2
        )
        if uniform(key, index + 1) > 1.0 / (1.0 + exp(-0.6 * margin)) * 0.97:
            continue
        hits[m, 0] = max(found[k, 0] + 0.1 * normal(key, index + 2), 0.1)
        hits[m, 1] = azimuth + np.radians(0.5) * normal(key, index + 3)
        hits[m, 2] = rate + 0.1 * normal(key, index + 4)
        hits[m, 3] = rcs
        m += 1
    if m > 0 and uniform(key, 1) < 0.05:
        # A ghost by way of a wall: twice as far, twice as fast, weak.
        k = int(uniform(key, 2) * m)
        hits[m, 0], hits[m, 1], hits[m, 2], hits[m, 3] = (
            hits[k, 0] * 2.0,
            hits[k, 1],
            hits[k, 2] * 2.0,
            hits[k, 3] - 12.0,
        )
        m += 1 if hits[m, 0] < range_max else 0
    if uniform(key, 3) < 0.06:
        far, azimuth = 3.0 + uniform(key, 4) * 40.0, (uniform(key, 5) - 0.5) * fov
        hits[m, 0], hits[m, 1], hits[m, 3] = far, azimuth, -8.0 + 3.0 * normal(key, 6)
        hits[m, 2] = -(velocity[0] * cos(yaw + azimuth) + velocity[1] * sin(yaw + azimuth)) + 0.3 * normal(key, 7)
        m += 1
    ranked = np.argsort(hits[:m, 0])
    for k in range(limit):
        valid[k] = k < m
        for c in range(4):
            out[k, c] = hits[ranked[k], c] if k < m else 0.0


@_jit
@no_type_check
def line_of_sight(out, x, y, z, reach, agents, order, count, floats, codes):  # type: ignore[no-untyped-def]
    """Tell for every agent whether a ray from (x, y, z) reaches its middle or one of its sides."""
    blockers = np.empty(count, np.int64)
    n = 0
    for j in range(count):
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
                enter, _, _ = _cut(f, codes[p, SHAPE], x, y, dirx, diry, 0.0)
                if 0.0 < enter < far - 0.5:
                    high = z + (0.6 * agents[k, 5] - z) * enter / far
                    if f[Z0] <= high <= f[Z1]:
                        free = False
                        break
            if free:
                out[k] = True
                break
