"""The camera kernel: solids, ground and light in, one uint8 picture out.

Solids stand upright and cameras look level (a pitch is a vertical shift of the picture, as with a shift lens), so
every picture column is a vertical half-plane. A column meets a solid in at most one stretch of distance, which
covers one stretch of rows: rays are cast once a column, not once a pixel, and rows are covered exactly,
so edges are anti-aliased without more rays. `SUB` columns are cast for every pixel column. All functions a
compiled entry calls live in this file, so that numba's cache notices when one changes.
"""

from __future__ import annotations

from math import asin, atan2, cos, exp, floor, hypot, sin, sqrt
from typing import no_type_check

import numba as nb
import numpy as np

from drivebyword.world.noise import bits
from drivebyword.world.solids import (
    BLUE,
    BOX,
    BUS,
    CAR_BODY,
    CARGO,
    COS,
    CROWN,
    CX,
    CY,
    ELLIPSOID,
    FACADE,
    FLAGS,
    GLASS,
    GREEN,
    HL,
    HL2,
    HW,
    HW2,
    LAMP,
    OX,
    RAD,
    RED,
    ROOF,
    SEED,
    SHADER,
    SHADOW,
    SHAPE,
    SIN,
    STREET_LAMP,
    SUN,
    Z0,
    Z1,
)

CANDIDATES = 128
"""Solids kept for one pixel column, nearest first."""
SPANS = 160
SUN_X, SUN_Y, SUN_Z = SUN
# Span columns: sort key, slope of the lower and upper end, distance, colour, and what rows of a texture need.
KEY, LOW, HIGH, DIST, SR, SG, SB, TEX, U, PRIM, GAIN, FOG = range(12)

# Light: ambient gain, headlight gain, 1 / visibility, night, exposure; fog, zenith and horizon colours; ego pose.
AMBIENT, HEAD, INV_VIS, NIGHT, EXPOSURE, FOG_R, ZEN_R, HOR_R, EGO_X, EGO_Y, EGO_C, EGO_S = (
    0,
    1,
    2,
    3,
    4,
    5,
    8,
    11,
    14,
    15,
    16,
    17,
)
LIGHT_SIZE = 18

_jit = nb.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
_inline = nb.njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")


@_inline
@no_type_check
def _headlight(light, x, y):  # type: ignore[no-untyped-def]
    """Return what the ego's low beam adds at a place."""
    dx, dy = x - light[EGO_X], y - light[EGO_Y]
    ahead = dx * light[EGO_C] + dy * light[EGO_S] - 3.0
    if ahead < 0.2:
        return 0.0
    side = (dy * light[EGO_C] - dx * light[EGO_S]) / (ahead + 1.5)
    cone = 1.0 + 3.0 * side * side
    far = ahead * (1.0 / 28.0)
    return light[HEAD] / (cone * cone * (1.0 + far * far))


@_jit
@no_type_check
def _slab(f, ox, oy, dx, dy, hl, hw, shift):  # type: ignore[no-untyped-def]
    """Cut a ray with a rectangle in its own frame: entry, exit, and the face entered (0 front .. 3 right)."""
    if abs(dx) < 1e-9:
        dx = 1e-9
    if abs(dy) < 1e-9:
        dy = 1e-9
    ix, iy = 1.0 / dx, 1.0 / dy
    a, b = (-hl + shift - ox) * ix, (hl + shift - ox) * ix
    c, d = (-hw - oy) * iy, (hw - oy) * iy
    x_in, x_out = (a, b) if a < b else (b, a)
    y_in, y_out = (c, d) if c < d else (d, c)
    out = min(x_out, y_out)
    if x_in > y_in:
        return x_in, out, (1 if dx > 0 else 0)
    return y_in, out, (3 if dy > 0 else 2)


@_inline
@no_type_check
def _face_light(cs, sn, face):  # type: ignore[no-untyped-def]
    """Sun on a side face: 0 front, 1 rear, 2 left, 3 right."""
    if face == 0:
        toward = cs * SUN_X + sn * SUN_Y
    elif face == 1:
        toward = -cs * SUN_X - sn * SUN_Y
    elif face == 2:
        toward = -sn * SUN_X + cs * SUN_Y
    else:
        toward = sn * SUN_X - cs * SUN_Y
    return 0.66 + 0.40 * toward if toward > 0 else 0.66 + 0.10 * toward


@_jit
@no_type_check
def _emit(spans, n, key, low, high, dist, r, g, b, light, gain, glow):  # type: ignore[no-untyped-def]
    """Append a span whose colour is final: lit by `gain`, dimmed by fog; `glow` shines on its own."""
    if n >= SPANS or high <= low:
        return n
    see = exp(-dist * light[INV_VIS] * (0.45 if glow else 1.0))
    power = 1.0 if glow else gain
    s = spans[n]
    s[KEY], s[LOW], s[HIGH], s[DIST], s[TEX] = key, low, high, dist, -1.0
    s[SR] = r * power * see + light[FOG_R] * (1.0 - see)
    s[SG] = g * power * see + light[FOG_R + 1] * (1.0 - see)
    s[SB] = b * power * see + light[FOG_R + 2] * (1.0 - see)
    s[GAIN], s[FOG] = power, see
    return n + 1


@_inline
@no_type_check
def _textured(spans, n, shader, u, prim):  # type: ignore[no-untyped-def]
    """Mark the span written last as textured by rows."""
    spans[n - 1, TEX], spans[n - 1, U], spans[n - 1, PRIM] = shader, u, prim
    return n


@_jit
@no_type_check
def _marks(spans, n, f, flags, shader, face, u, t, key, z, light, gain):  # type: ignore[no-untyped-def]
    """Add lamps, plates, wheels and windows of a vehicle's entered face, just in front of it."""
    width, foot, top = f[HW], f[Z0], f[Z1]
    inv = 1.0 / t
    night = light[NIGHT]
    if face == 1:
        low = foot + 0.55 * (top - foot) if shader == CAR_BODY else foot + 0.10
        edge = abs(u) / width
        if shader == BUS:
            low = 0.75
        if edge > 0.84 and flags & (2 if u > 0 else 4):
            n = _emit(
                spans, n, key, (low - 0.04 - z) * inv, (low + 0.24 - z) * inv, t, 255.0, 160.0, 10.0, light, gain, True
            )
        elif edge > 0.52:
            on = flags & 1
            if on:
                n = _emit(
                    spans,
                    n,
                    key,
                    (low - 0.05 - z) * inv,
                    (low + 0.26 - z) * inv,
                    t,
                    255.0,
                    26.0,
                    20.0,
                    light,
                    gain,
                    True,
                )
            else:
                tail = 96.0 + 90.0 * night
                n = _emit(
                    spans,
                    n,
                    key,
                    (low - z) * inv,
                    (low + 0.20 - z) * inv,
                    t,
                    tail,
                    14.0,
                    18.0,
                    light,
                    gain,
                    night > 0.3,
                )
        elif edge < 0.30 and shader == CAR_BODY:
            n = _emit(
                spans,
                n,
                key,
                (foot + 0.22 - z) * inv,
                (foot + 0.34 - z) * inv,
                t,
                226.0,
                226.0,
                214.0,
                light,
                gain,
                False,
            )
        if shader != CARGO:
            n = _emit(spans, n, key, (foot - z) * inv, (foot + 0.14 - z) * inv, t, 34.0, 35.0, 38.0, light, gain, False)
        if shader == BUS and edge < 0.86:
            n = _emit(spans, n, key, (1.6 - z) * inv, (2.5 - z) * inv, t, 44.0, 54.0, 62.0, light, gain, False)
    elif face == 0:
        edge = abs(u) / width
        low = foot + 0.48 * (top - foot) if shader == CAR_BODY else 0.7
        if edge > 0.84 and flags & (4 if u > 0 else 2) and not flags & 8:
            n = _emit(
                spans, n, key, (low - 0.1 - z) * inv, (low + 0.1 - z) * inv, t, 255.0, 160.0, 10.0, light, gain, True
            )
        elif edge > 0.56:
            n = _emit(
                spans, n, key, (low - z) * inv, (low + 0.17 - z) * inv, t, 240.0, 240.0, 226.0, light, gain, night > 0.3
            )
        elif shader == CAR_BODY:
            n = _emit(
                spans, n, key, (foot + 0.18 - z) * inv, (foot + 0.34 - z) * inv, t, 40.0, 42.0, 46.0, light, gain, False
            )
        if shader == BUS:
            n = _emit(
                spans, n, key, (top - 1.55 - z) * inv, (top - 0.5 - z) * inv, t, 44.0, 56.0, 66.0, light, gain, False
            )
        n = _emit(spans, n, key, (foot - z) * inv, (foot + 0.12 - z) * inv, t, 34.0, 35.0, 38.0, light, gain, False)
    else:
        ahead = u if face == 3 else -u
        reach = f[HL]
        if shader == CARGO:
            return n
        wheel = 0.33 if shader == CAR_BODY else 0.48
        for axle in (-1.0, 1.0):
            gap = ahead - axle * (reach - 0.19 * 2.0 * reach if shader == CAR_BODY else reach - 1.2 * wheel - 0.45)
            if abs(gap) < wheel:
                rise = sqrt(wheel * wheel - gap * gap)
                hub = wheel * 0.55
                if abs(gap) < hub:
                    half = sqrt(hub * hub - gap * gap)
                    n = _emit(
                        spans,
                        n,
                        key - 1e-4,
                        (wheel - half - z) * inv,
                        (wheel + half - z) * inv,
                        t,
                        132.0,
                        134.0,
                        138.0,
                        light,
                        gain,
                        False,
                    )
                n = _emit(
                    spans,
                    n,
                    key,
                    (wheel - rise - z) * inv,
                    (wheel + rise - z) * inv,
                    t,
                    24.0,
                    24.0,
                    26.0,
                    light,
                    gain,
                    False,
                )
        if flags & (2 if face == 2 else 4) and ahead > reach - 0.5 and not flags & 8:
            n = _emit(
                spans, n, key, (top - 0.35 - z) * inv, (top - 0.15 - z) * inv, t, 255.0, 160.0, 10.0, light, gain, True
            )
        n = _emit(spans, n, key, (foot - z) * inv, (foot + 0.12 - z) * inv, t, 34.0, 35.0, 38.0, light, gain, False)
        if shader == BUS:
            cell = (ahead + 50.0) / 1.5
            if abs(ahead) < reach - 0.35 and abs(cell - floor(cell) - 0.5) < 0.44:
                n = _emit(
                    spans,
                    n,
                    key,
                    (top * 0.50 - z) * inv,
                    (top * 0.80 - z) * inv,
                    t,
                    46.0,
                    56.0,
                    64.0,
                    light,
                    gain,
                    night > 0.5,
                )
    return n


@_jit
@no_type_check
def _sphere(spans, n, f, code, prim, dirx, diry, cam, light, wide):  # type: ignore[no-untyped-def]
    """Cut an upright ellipsoid of revolution: its stretch of slopes is exact."""
    px, py = f[CX] - cam[0], f[CY] - cam[1]
    along, aside = px * dirx + py * diry, py * dirx - px * diry
    radius = f[HL]
    if abs(aside) >= radius or along < radius + 0.3:
        return n
    slice_r = sqrt(radius * radius - aside * aside)
    stretch = (f[Z1] - f[Z0]) / (2.0 * radius)
    up = ((f[Z0] + f[Z1]) * 0.5 - cam[2]) / stretch
    reach = hypot(along, up)
    if reach <= slice_r:
        return n
    middle, half = atan2(up, along), asin(slice_r / reach)
    low, high = sin(middle - half) / cos(middle - half) * stretch, sin(middle + half) / cos(middle + half) * stretch
    shader = code[SHADER]
    dist = along - slice_r
    x, y = cam[0] + dist * dirx, cam[1] + dist * diry
    gain = light[AMBIENT] * 0.92
    if light[HEAD] > 0.0:
        gain += _headlight(light, x, y) * 0.8
    if shader == LAMP:
        # The face looks along its yaw: from the side and from behind a lamp shows nothing.
        facing = -(px * f[COS] + py * f[SIN]) / max(hypot(px, py), 1e-3)
        if facing < 0.25:
            return n
        lit = code[FLAGS] == 1
        return _emit(spans, n, dist - 0.3, low, high, dist, f[RED], f[GREEN], f[BLUE], light, gain, lit)
    n = _emit(spans, n, dist, low, high, dist, f[RED], f[GREEN], f[BLUE], light, gain, False)
    if shader == CROWN and n > 0:
        n = _textured(spans, n, CROWN, aside, prim)
    return n


@_jit
@no_type_check
def _upright(spans, n, f, code, prim, dirx, diry, cam, light, levels):  # type: ignore[no-untyped-def]
    """Cut a box or a tapered box; add its side, its top or underside, and marks on the side."""
    cs, sn = f[COS], f[SIN]
    px, py = cam[0] - f[CX], cam[1] - f[CY]
    ox, oy = px * cs + py * sn, py * cs - px * sn
    dx, dy = dirx * cs + diry * sn, diry * cs - dirx * sn
    t, out, face = _slab(f, ox, oy, dx, dy, f[HL], f[HW], 0.0)
    if t >= out or t < 0.25:
        return n
    z, foot, top = cam[2], f[Z0], f[Z1]
    shader = code[SHADER]
    r, g, b = f[RED], f[GREEN], f[BLUE]
    bright = _face_light(cs, sn, face)
    beam = 0.0
    if light[HEAD] > 0.0:
        beam = _headlight(light, cam[0] + t * dirx, cam[1] + t * diry)
    gain = light[AMBIENT] * bright + beam
    inv = 1.0 / t
    glow = shader == STREET_LAMP and light[NIGHT] > 0.3
    if code[SHAPE] == BOX:
        if top < z:
            n = _emit(
                spans,
                n,
                out,
                (top - z) * inv,
                (top - z) / out,
                t,
                r,
                g,
                b,
                light,
                light[AMBIENT] * 1.04 + beam * 0.6,
                glow,
            )
        elif foot > z:
            n = _emit(spans, n, out, (foot - z) / out, (foot - z) * inv, t, r, g, b, light, gain * 0.5, glow)
        if shader == CAR_BODY or shader == BUS or shader == CARGO:
            u = oy + t * dy if face <= 1 else ox + t * dx
            if face >= 2:
                u = u if face == 3 else -u
            n = _marks(spans, n, f, code[FLAGS], shader, face, u, t, t - 2e-4, z, light, gain)
        n = _emit(spans, n, t, (foot - z) * inv, (top - z) * inv, t, r, g, b, light, gain, glow)
        if shader == FACADE and n > 0:
            u = oy + t * dy if face <= 1 else ox + t * dx
            n = _textured(spans, n, FACADE, u + (f[HW] if face <= 1 else f[HL]), prim)
        return n
    # Tapered: cut at some heights and join the entries; the side then slopes.
    before, at, side = t, foot, face
    far = out
    for k in range(1, levels + 1):
        share = k / levels
        hl, hw = f[HL] + (f[HL2] - f[HL]) * share, f[HW] + (f[HW2] - f[HW]) * share
        t2, out2, face2 = _slab(f, ox, oy, dx, dy, hl, hw, f[OX] * share)
        if t2 >= out2 or t2 < 0.25:
            break
        height = foot + (top - foot) * share
        lit = _face_light(cs, sn, side) + (0.22 if shader == ROOF else 0.10)
        power = light[AMBIENT] * lit + beam
        cr, cg, cb = r, g, b
        if shader == GLASS:
            pillar = False
            if side >= 2:
                ahead = ox + before * dx
                pillar = abs(ahead + 0.05 * f[HL]) < 0.05 * f[HL]
            if not pillar and share < 0.99:
                sky = 0.5 + 0.5 * share
                cr, cg, cb = 40.0 + 34.0 * sky, 48.0 + 42.0 * sky, 56.0 + 50.0 * sky
            if side == 1 and code[FLAGS] & 1 and k == levels and abs(oy + before * dy) < 0.55 * f[HW]:
                # The third brake lamp.
                n = _emit(
                    spans,
                    n,
                    before - 1e-3,
                    (height - 0.16 - z) / t2,
                    (height - z) / t2,
                    t2,
                    255.0,
                    26.0,
                    20.0,
                    light,
                    power,
                    True,
                )
        elif shader == CROWN:
            tuft = 0.72 + 0.5 * share + 0.16 * (k & 1)
            cr, cg, cb = r * tuft, g * tuft, b * tuft
        elif shader == ROOF:
            band = 0.95 + 0.05 * (k & 1)
            cr, cg, cb = r * band, g * band, b * band
        n = _emit(spans, n, before, (at - z) / before, (height - z) / t2, before, cr, cg, cb, light, power, False)
        before, at, far, side = t2, height, out2, face2
    if at < z:
        n = _emit(
            spans,
            n,
            far,
            (at - z) / before,
            (at - z) / far,
            before,
            r,
            g,
            b,
            light,
            light[AMBIENT] * 1.04 + beam * 0.6,
            False,
        )
    return n


@_inline
@no_type_check
def _window_share(z, floor_height):  # type: ignore[no-untyped-def]
    """Integrate, from the ground to z, the rows of windows: 45% of every storey."""
    storey = z / floor_height
    k = floor(storey)
    return (k * 0.45 + min(max(storey - k - 0.30, 0.0), 0.45)) * floor_height


@_inline
@no_type_check
def _hash(a, b, c):  # type: ignore[no-untyped-def]
    """Mix three small integers into [0, 1)."""
    h = (a * 374761393 + b * 668265263 + c * 2147483647) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    return ((h ^ (h >> 16)) & 0xFFFF) * (1.0 / 65536.0)


@_jit
@no_type_check
def _fill(spans, k, rem, acc, f, g, cy, cam_z, night, step):  # type: ignore[no-untyped-def]
    """Paint one span into its column where nothing nearer is; returns the weight painted."""
    s = spans[k]
    rows = rem.shape[0]
    upper, lower = max(cy - s[HIGH] * g, 0.0), min(cy - s[LOW] * g, float(rows))
    if upper >= lower:
        return 0.0
    tex = int(s[TEX])
    r, gr, b = s[SR], s[SG], s[SB]
    painted = 0.0
    fog, gain, dist = s[FOG], s[GAIN], s[DIST]
    share_u, cell, lit_gain, pitch = 0.0, 0, 0.0, 0.0
    if tex == FACADE:
        pitch = 2.3 + 1.3 * _hash(int(f[SEED] * 65536), 1, 0)
        part = 0.46 + 0.2 * _hash(int(f[SEED] * 65536), 2, 0)
        cell = int(s[U] / pitch)
        mean = min(max(2.0 * dist * step / pitch - 0.4, 0.0), 1.0)
        inside = 1.0 if abs(s[U] / pitch - cell - 0.5) < part * 0.5 else 0.0
        share_u = (1.0 - mean) * inside + mean * part
    for row in range(int(upper), min(int(lower) + 1, rows)):
        if rem[row] <= 0.0:
            continue
        a, z = max(upper, float(row)), min(lower, row + 1.0)
        cover = min(z - a, rem[row])
        if cover <= 0.0:
            continue
        rem[row] -= cover
        painted += cover
        cr, cg, cb = r, gr, b
        if tex == FACADE and share_u > 0.0:
            high, low = cam_z + (cy - a) / g * dist, cam_z + (cy - z) / g * dist
            if high < f[Z1] - 0.35:
                share = share_u * (_window_share(high, 3.1) - _window_share(low, 3.1)) / max(high - low, 1e-4)
                pane = _hash(int(f[SEED] * 65536), cell, int(high * (1.0 / 3.1)) + 7)
                wr, wg, wb = 58.0 + 30.0 * pane, 72.0 + 32.0 * pane, 88.0 + 34.0 * pane
                power = gain
                if night > 0.3 and pane < 0.34:
                    wr, wg, wb, power = 250.0, 206.0, 128.0, 0.85
                cr += share * (wr * power - f[RED] * gain) * fog
                cg += share * (wg * power - f[GREEN] * gain) * fog
                cb += share * (wb * power - f[BLUE] * gain) * fog
        elif tex == CROWN:
            at = ((cy - 0.5 * (a + z)) / g - s[LOW]) / (s[HIGH] - s[LOW])
            height = cam_z + (cy - 0.5 * (a + z)) / g * dist
            tuft = _hash(int(s[U] * 2.6 + 64.0), int(height * 2.6), int(f[SEED] * 65536)) - 0.5
            shade = 0.60 + 0.52 * at + 0.24 * tuft * min(1.0, 0.02 / (dist * step))
            # Only the leaves' own light is shaded, not the fog before them.
            own = (shade - 1.0) * gain * fog
            cr, cg, cb = cr + f[RED] * own, cg + f[GREEN] * own, cb + f[BLUE] * own
        acc[row, 0] += cr * cover
        acc[row, 1] += cg * cover
        acc[row, 2] += cb * cover
    return painted


@_inline
@no_type_check
def _texel(base, palette, mips, levels, x, y, level):  # type: ignore[no-untyped-def]
    """Fetch the packed ground colour at finest-level pixel coordinates, from a level of the pyramid."""
    ix, iy = int(x), int(y)
    if x < 0.0 or y < 0.0 or ix >= base.shape[1] or iy >= base.shape[0]:
        return palette[0x10]
    if level == 0:
        return palette[base[iy, ix]]
    ix = min(ix >> level, levels[level, 2] - 1)
    iy = min(iy >> level, levels[level, 1] - 1)
    return mips[levels[level, 0] + iy * levels[level, 2] + ix]


@_jit
@no_type_check
def _smooth(base, palette, mips, levels, x, y, level, total):  # type: ignore[no-untyped-def]
    """Add the bilinear ground colour to `total`."""
    size = float(1 << level)
    fx, fy = x / size - 0.5, y / size - 0.5
    kx, ky = floor(fx), floor(fy)
    for j in range(2):
        wy = fy - ky if j else 1.0 - (fy - ky)
        for i in range(2):
            wx = fx - kx if i else 1.0 - (fx - kx)
            word = _texel(base, palette, mips, levels, (kx + i + 0.5) * size, (ky + j + 0.5) * size, level)
            total[0] += wx * wy * (word & 255)
            total[1] += wx * wy * ((word >> 8) & 255)
            total[2] += wx * wy * ((word >> 16) & 255)


@_jit
@no_type_check
def _shadow(f, dirx, diry, cam, g, cy, shade):  # type: ignore[no-untyped-def]
    """Darken the rows where a flat shadow lies."""
    px, py = cam[0] - f[CX], cam[1] - f[CY]
    cs, sn = f[COS], f[SIN]
    t, out, _ = _slab(
        f, px * cs + py * sn, py * cs - px * sn, dirx * cs + diry * sn, diry * cs - dirx * sn, f[HL], f[HW], 0.0
    )
    t = max(t, 0.3)
    if t >= out:
        return
    rows = shade.shape[0]
    upper, lower = max(cy + cam[2] / out * g, 0.0), min(cy + cam[2] / t * g, float(rows))
    for row in range(int(upper), min(int(lower) + 1, rows)):
        cover = min(lower, row + 1.0) - max(upper, float(row))
        if cover > 0.0:
            shade[row] *= 1.0 - f[SEED] * cover


@_jit
@no_type_check
def _bins(cam, half_fov, scale, cylindrical, width, pixel_angle, order, count, floats, codes, table, counts):  # type: ignore[no-untyped-def]
    """List, for every pixel column, the solids that may show in it, nearest first."""
    cs, sn = cos(cam[3]), sin(cam[3])
    for k in range(width):
        counts[k] = 0
    for j in range(count):
        p = order[j]
        f = floats[p]
        px, py = f[CX] - cam[0], f[CY] - cam[1]
        ahead, left = px * cs + py * sn, py * cs - px * sn
        distance = hypot(ahead, left)
        low, high = -half_fov, half_fov
        if distance > f[RAD] + 0.05:
            middle = atan2(left, ahead)
            if codes[p, SHAPE] == ELLIPSOID:
                spread = asin(min(f[HL] / distance, 1.0))
                low, high = middle - spread, middle + spread
            else:
                yc, ys = f[COS] * cs + f[SIN] * sn, f[SIN] * cs - f[COS] * sn
                low, high = 0.0, 0.0
                for corner in range(4):
                    a = f[HL] if corner < 2 else -f[HL]
                    b = f[HW] if corner % 2 == 0 else -f[HW]
                    qx, qy = ahead + a * yc - b * ys, left + a * ys + b * yc
                    turn = atan2(ahead * qy - left * qx, ahead * qx + left * qy)
                    low, high = min(low, turn), max(high, turn)
                low, high = low + middle, high + middle
            if high - low < 0.25 * pixel_angle and f[Z1] - f[Z0] < 0.5 * distance * pixel_angle:
                if codes[p, SHADER] != LAMP:
                    continue
        if high < -half_fov or low > half_fov:
            continue
        low, high = max(low, -half_fov), min(high, half_fov)
        if cylindrical:
            first, last = 0.5 * width - scale * high, 0.5 * width - scale * low
        else:
            first, last = 0.5 * width - scale * sin(high) / cos(high), 0.5 * width - scale * sin(low) / cos(low)
        for col in range(max(int(first), 0), min(int(last), width - 1) + 1):
            if counts[col] < CANDIDATES:
                table[col, counts[col]] = p
                counts[col] += 1


@_inline
@no_type_check
def _lattice(x, y):  # type: ignore[no-untyped-def]
    """Return smooth noise in [0, 1) at a place."""
    kx, ky = floor(x), floor(y)
    a, b = x - kx, y - ky
    a, b = a * a * (3.0 - 2.0 * a), b * b * (3.0 - 2.0 * b)
    i, j = int(kx), int(ky)
    low = _hash(i, j, 1) * (1 - a) + _hash(i + 1, j, 1) * a
    return low * (1 - b) + (_hash(i, j + 1, 1) * (1 - a) + _hash(i + 1, j + 1, 1) * a) * b


@_jit
@no_type_check
def render(
    out,
    cam,
    half_fov,
    scale,
    cylindrical,
    rays,
    cy,
    row_level,
    row_taps,
    row_fog,
    sky,
    order,
    count,
    floats,
    codes,
    base,
    palette,
    mips,
    levels,
    origin,
    light,
    key,
    noise,
    fine,
    table,
    counts,
):  # type: ignore[no-untyped-def]
    """Render one camera.

    Args:
        out: Picture, rows x columns x 3 uint8.
        cam: x, y, z, yaw of the camera in the map frame.
        half_fov: Half the horizontal field of view in radians.
        scale: Columns a radian (cylindrical) or focal length in pixels (pinhole).
        cylindrical: Which projection.
        rays: For every sub-column: cos and sin of its azimuth from the camera's axis, rows a unit of slope.
        cy: Row of the horizon.
        row_level: Pyramid level of the ground at every row.
        row_taps: Ground samples along the ray at every row.
        row_fog: Share of the ground's own light that arrives, at every row.
        sky: Colour of the sky at every row.
        order: Rows of the table, nearest first.
        count: How many of them.
        floats: The table of solids.
        codes: Its codes.
        base: Ground material bytes.
        palette: Packed colour of a material byte.
        mips: Packed coarser levels.
        levels: Offset, rows, columns of every level.
        origin: x min, y min, pixel of the ground.
        light: See AMBIENT and its neighbours.
        key: Noise key of this picture.
        noise: Read noise (grey levels) and shot noise (squared grey levels a grey level).
        fine: 0 for sensors; else the number of cuts of tapered solids, with bilinear ground and clouds.
        table: Scratch, columns x CANDIDATES.
        counts: Scratch, columns.
    """
    height, width = out.shape[0], out.shape[1]
    subs = rays.shape[0] // width
    _bins(cam, half_fov, scale, cylindrical, width, half_fov * 2.0 / width, order, count, floats, codes, table, counts)
    spans = np.empty((SPANS, 12), np.float64)
    sorted_spans = np.empty(SPANS, np.int64)
    rem, shade = np.empty(height, np.float64), np.empty(height, np.float64)
    acc, total = np.empty((height, 3), np.float64), np.empty(3, np.float64)
    cs, sn = cos(cam[3]), sin(cam[3])
    step = 2.0 * half_fov / rays.shape[0]
    cuts = fine if fine else 3
    inv_pixel = 1.0 / origin[2]
    at_x, at_y = (cam[0] - origin[0]) * inv_pixel, (cam[1] - origin[1]) * inv_pixel
    base_rows, base_cols = base.shape[0] - 1, base.shape[1] - 1
    # Two bytes of a packed colour are summed in one word: up to 256 samples fit.
    zero, mask, low16 = np.uint32(0), np.uint32(0x00FF00FF), np.uint32(0xFFFF)
    eight, sixteen = np.uint32(8), np.uint32(16)
    for col in range(width):
        acc[:] = 0.0
        for sub in range(subs):
            ray = col * subs + sub
            dirx, diry = rays[ray, 0] * cs - rays[ray, 1] * sn, rays[ray, 0] * sn + rays[ray, 1] * cs
            g = rays[ray, 2]
            rem[:] = 1.0
            shade[:] = 1.0
            n = 0
            wall, wall_slope = 1e9, -1e9
            for c in range(counts[col]):
                p = table[col, c]
                f = floats[p]
                shape = codes[p, SHAPE]
                if shape == SHADOW:
                    _shadow(f, dirx, diry, cam, g, cy, shade)
                    continue
                near = hypot(f[CX] - cam[0], f[CY] - cam[1]) - f[RAD]
                if near > wall and (f[Z1] - cam[2]) / (near if f[Z1] > cam[2] else near + 2.0 * f[RAD]) < wall_slope:
                    continue
                before = n
                if shape == ELLIPSOID:
                    n = _sphere(spans, n, f, codes[p], p, dirx, diry, cam, light, step)
                else:
                    n = _upright(spans, n, f, codes[p], p, dirx, diry, cam, light, cuts)
                    if n > before and codes[p, SHADER] == FACADE:
                        t, slope = spans[n - 1, KEY], spans[n - 1, HIGH]
                        if slope > wall_slope or t < wall:
                            wall, wall_slope = t, slope
            for k in range(n):
                j = k
                while j > 0 and spans[sorted_spans[j - 1], KEY] > spans[k, KEY]:
                    sorted_spans[j] = sorted_spans[j - 1]
                    j -= 1
                sorted_spans[j] = k
            left = float(height)
            for k in range(n):
                s = sorted_spans[k]
                left -= _fill(spans, s, rem, acc, floats[int(spans[s, PRIM])] if spans[s, TEX] >= 0.0 else floats[0], g, cy,
                              cam[2], light[NIGHT], step)  # fmt: skip
                if left <= 1e-3:
                    break
            if left <= 1e-3:
                continue
            reach = cam[2] * g * inv_pixel
            for row in range(height):
                weight = rem[row]
                if weight <= 1e-3:
                    continue
                below = row + 0.5 - cy
                if below <= 0.02:
                    haze = 0.0
                    if fine and below < -0.03 * g and light[NIGHT] < 0.5:
                        # Clouds on a plane overhead.
                        aloft = 3.0 * g / -below
                        cx, cz = aloft * dirx, aloft * diry
                        puff = (
                            0.55 * _lattice(cx * 0.35, cz * 0.35)
                            + 0.3 * _lattice(cx, cz)
                            + 0.15 * _lattice(cx * 2.7, cz * 2.7)
                        )
                        haze = min(max((puff - 0.48) * 2.6, 0.0), 1.0) * min(-below / g * 4.0, 0.75) * row_fog[0]
                    for c in range(3):
                        acc[row, c] += weight * (sky[row, c] * (1.0 - haze) + 246.0 * haze)
                    continue
                level, taps = row_level[row], row_taps[row]
                # Sub-columns sample between each other's rows.
                shift = (sub + 0.5) / subs
                if fine:
                    total[:] = 0.0
                    for tap in range(taps):
                        d = cam[2] * g / max(row + (tap + shift) / taps - cy, 0.02) * inv_pixel
                        _smooth(base, palette, mips, levels, at_x + d * dirx, at_y + d * diry, level, total)
                    red, green, blue = total[0], total[1], total[2]
                elif level == 0:
                    even, odd = zero, zero
                    for tap in range(taps):
                        d = reach / max(row + (tap + shift) / taps - cy, 0.02)
                        ix, iy = int(at_x + d * dirx), int(at_y + d * diry)
                        word = palette[base[min(max(iy, 0), base_rows), min(max(ix, 0), base_cols)]]
                        even += word & mask
                        odd += (word >> eight) & mask
                    red, green, blue = float(even & low16), float(odd & low16), float(even >> sixteen)
                else:
                    even, odd = zero, zero
                    start, rows, cols = levels[level, 0], levels[level, 1], levels[level, 2]
                    for tap in range(taps):
                        d = reach / max(row + (tap + shift) / taps - cy, 0.02)
                        ix, iy = int(at_x + d * dirx) >> level, int(at_y + d * diry) >> level
                        word = mips[start + min(max(iy, 0), rows - 1) * cols + min(max(ix, 0), cols - 1)]
                        even += word & mask
                        odd += (word >> eight) & mask
                    red, green, blue = float(even & low16), float(odd & low16), float(even >> sixteen)
                gain = light[AMBIENT]
                if light[HEAD] > 0.0:
                    d = cam[2] * g / below
                    gain += _headlight(light, cam[0] + d * dirx, cam[1] + d * diry)
                see = row_fog[row]
                power = gain * shade[row] * see * weight / taps
                veil = weight * (1.0 - see)
                acc[row, 0] += red * power + veil * light[FOG_R]
                acc[row, 1] += green * power + veil * light[FOG_R + 1]
                acc[row, 2] += blue * power + veil * light[FOG_R + 2]
        gain = light[EXPOSURE] / subs
        for row in range(height):
            word = bits(key, row * width + col)
            for c in range(3):
                value = min(acc[row, c] * gain, 262.0)
                if noise[0] > 0.0:
                    # The sum of two uniform numbers: close enough to a bell, and one mix serves three channels.
                    a, b = (
                        (word >> np.uint64(20 * c)) & np.uint64(1023),
                        (word >> np.uint64(20 * c + 10)) & np.uint64(1023),
                    )
                    bell = (float(a) + float(b) - 1023.0) * (1.0 / 417.6)
                    value += bell * sqrt(noise[0] * noise[0] + noise[1] * value)
                out[row, col, c] = np.uint8(min(max(value + 0.5, 0.0), 255.0))
