"""The radar kernel: the table of solids in, detections out."""

from __future__ import annotations

from math import cos, exp, log10, sin, sqrt
from typing import no_type_check

import numpy as np

from drivebyword.world.jit import leaf, outer
from drivebyword.world.noise import normal, uniform
from drivebyword.world.ranging import PARTS, aim, columns_of, cut
from drivebyword.world.solids import (
    COS,
    CX,
    CY,
    ELLIPSOID,
    FACADE,
    HL,
    OWNER,
    RAD,
    SHADER,
    SHADOW,
    SHAPE,
    SIN,
    Z0,
    Z1,
)

CALLED = "22400668a270"
"""Content of the files whose compiled functions are called here; a test says what to write."""

# Mean radar cross-section of every AgentKind, dBsm.
RCS_DBSM = np.array([10.0, 12.0, 18.0, 20.0, 0.0, -3.0, 3.0, -12.0, 2.0, 2.0, -5.0, -4.0, -3.0, -3.0, -2.0])


@outer
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
        order, floats, codes: The table of solids: rows nearest first, their numbers and codes.
        agents, kinds: Road users, for their velocities, and their AgentKind.
        inv_visibility: 1 / fog visibility in metres.
        key: Noise key.
    """
    rows, limit = slopes.shape[0], out.shape[0]
    near, what = np.full((columns, rows), 1e9), np.full((columns, rows), -1)
    _meet(near, what, np.empty((columns, PARTS, 2)), pose, fov, slopes, range_max, order, floats, codes)
    hits = np.empty((columns * rows + 6, 4))
    m = _detect(
        hits, np.empty((columns * rows + 4, 4)), near, what, pose, velocity, fov, range_max, codes, agents,
        kinds, inv_visibility, key,
    )  # fmt: skip
    ranked = np.argsort(hits[:m, 0])
    for k in range(limit):
        valid[k] = k < m
        for c in range(4):
            out[k, c] = hits[ranked[k], c] if k < m else 0.0


@leaf
@no_type_check
def _meet(near, what, towards, pose, fov, slopes, range_max, order, floats, codes):  # type: ignore[no-untyped-def]
    """Find what every radar ray meets: its distance, and the row of the solid (-2: mirrored away, -1: nothing)."""
    columns, rows = near.shape
    x, y, z, yaw = pose
    per, half = fov / columns, fov / 2
    aim(towards, yaw + half, per)
    cs, sn = cos(yaw), sin(yaw)
    for j in range(order.shape[0]):
        p = order[j]
        f, shape = floats[p], codes[p, SHAPE]
        if shape == SHADOW or (shape == ELLIPSOID and codes[p, OWNER] < 0):
            continue
        dx, dy = f[CX] - x, f[CY] - y
        if sqrt(dx * dx + dy * dy) - f[RAD] > range_max:
            continue
        first, last = columns_of(f, x, y, cs, sn, half, columns, fov)
        for col in range(max(first, 0), min(last, columns - 1) + 1):
            for part in range(PARTS):
                dirx, diry = towards[col, part, 0], towards[col, part, 1]
                enter, _, face = cut(f, shape, x, y, dirx, diry, 0.5 * per / PARTS)
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


@leaf
@no_type_check
def _detect(  # type: ignore[no-untyped-def]
    hits, found, near, what, pose, velocity, fov, range_max, codes, agents, kinds, inv_visibility, key
):
    """Gather rays into detections, add noise, a ghost and clutter; return how many there are."""
    columns, rows = near.shape
    yaw = pose[3]
    per, half = fov / columns, fov / 2
    n = 0
    for col in range(columns):
        for row in range(rows):
            p = what[col, row]
            if p < 0:
                continue
            owner = codes[p, OWNER]
            slot = owner if owner >= 0 else max(agents.shape[0], 1) + p
            azimuth = half - (col + 0.5) * per
            k = 0
            while k < n and found[k, 3] != slot:
                k += 1
            if k == n:
                found[n, 0], found[n, 1], found[n, 2], found[n, 3] = near[col, row], azimuth, 1.0, slot
                n += 1
            else:
                found[k, 0] = min(found[k, 0], near[col, row])
                found[k, 1] += azimuth
                found[k, 2] += 1.0
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
    return m
