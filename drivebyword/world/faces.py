"""What one picture column meets: a solid and a ray in the plane in, spans out.

A span is a stretch of slopes (rise over horizontal distance) with a distance and a colour that is final: lit,
shaded and dimmed by fog. kernel.py sorts a column's spans and paints them into rows.
"""

from __future__ import annotations

from math import asin, atan2, cos, floor, hypot, sin, sqrt
from typing import no_type_check

from drivebyword.world.angles import BEARING_ERROR, bearing, half_width
from drivebyword.world.jit import fast_inlined, fast_leaf
from drivebyword.world.light import (
    AMBIENT,
    HEAD,
    INV_VIS,
    NIGHT,
    SUN_SIDE,
    face_light,
    headlight,
    lattice,
)
from drivebyword.world.plates import HIGHEST, LAYER, LOWEST, plate
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
    MIRRORED,
    OX,
    RAD,
    RED,
    ROOF,
    SEED,
    SHADER,
    SHAPE,
    SIN,
    STREET_LAMP,
    Z0,
    Z1,
)

CANDIDATES = 128
"""Solids kept for one pixel column, nearest first."""
AMBER, BRAKING, PLATE, HEADLAMP = (
    (255.0, 160.0, 10.0),
    (255.0, 26.0, 20.0),
    (226.0, 226.0, 214.0),
    (240.0, 240.0, 226.0),
)
BLACK, PANE, TYRE, RIM = (34.0, 35.0, 38.0), (44.0, 54.0, 62.0), (24.0, 24.0, 26.0), (132.0, 134.0, 138.0)
SPANS = 160
"""Spans kept for one column."""
# Span columns: sort key, slope of the lower and upper end, distance, colour, and what rows of a texture need.
KEY, LOW, HIGH, DIST, SR, SG, SB, TEX, U, PRIM, GAIN, HAZE = range(12)


@fast_leaf
@no_type_check
def slab(f, ox, oy, dx, dy, hl, hw, shift):  # type: ignore[no-untyped-def]
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


@fast_leaf
@no_type_check
def emit(spans, n, key, low, high, dist, r, g, b, light, gain, glow):  # type: ignore[no-untyped-def]
    """Append a span lit by `gain`, to be dimmed by the fog before it where it shows; `glow` shines on its own."""
    if n >= SPANS or high <= low:
        return n
    power = 1.0 if glow else gain
    s = spans[n]
    s[KEY], s[LOW], s[HIGH], s[DIST], s[TEX] = key, low, high, dist, -1.0
    s[SR], s[SG], s[SB], s[GAIN] = r * power, g * power, b * power, power
    s[HAZE] = dist * light[INV_VIS] * (0.45 if glow else 1.0)
    return n + 1


@fast_inlined
@no_type_check
def textured(spans, n, shader, u, prim):  # type: ignore[no-untyped-def]
    """Mark the span written last as textured by rows."""
    spans[n - 1, TEX], spans[n - 1, U], spans[n - 1, PRIM] = shader, u, prim
    return n


@fast_leaf
@no_type_check
def mark(spans, n, key, low, high, z, t, colour, light, gain, glow):  # type: ignore[no-untyped-def]
    """Append a band between two heights on a face `t` metres away."""
    return emit(spans, n, key, (low - z) / t, (high - z) / t, t, colour[0], colour[1], colour[2], light, gain, glow)


@fast_leaf
@no_type_check
def mark_rear(spans, n, f, flags, shader, u, t, key, z, light, gain):  # type: ignore[no-untyped-def]
    """Add brake lamps, indicators, plate and rear window."""
    foot, night, edge = f[Z0], light[NIGHT], abs(u) / f[HW]
    low = foot + 0.55 * (f[Z1] - foot) if shader == CAR_BODY else foot + 0.10
    if shader == BUS:
        low = 0.75
    if edge > 0.84 and flags & (2 if u > 0 else 4):
        n = mark(spans, n, key, low - 0.04, low + 0.24, z, t, AMBER, light, gain, True)
    elif edge > 0.52 and flags & 1:
        n = mark(spans, n, key, low - 0.05, low + 0.26, z, t, BRAKING, light, gain, True)
    elif edge > 0.52:
        tail = (96.0 + 90.0 * night, 14.0, 18.0)
        n = mark(spans, n, key, low, low + 0.20, z, t, tail, light, gain, night > 0.3)
    elif edge < 0.30 and shader == CAR_BODY:
        n = mark(spans, n, key, foot + 0.22, foot + 0.34, z, t, PLATE, light, gain, False)
    if shader != CARGO:
        n = mark(spans, n, key, foot, foot + 0.14, z, t, BLACK, light, gain, False)
    if shader == BUS and edge < 0.86:
        n = mark(spans, n, key, 1.6, 2.5, z, t, PANE, light, gain, False)
    return n


@fast_leaf
@no_type_check
def mark_front(spans, n, f, flags, shader, u, t, key, z, light, gain):  # type: ignore[no-untyped-def]
    """Add headlamps, indicators, grille and windscreen. Flag 8 marks a truck's cab, whose body has the indicators."""
    foot, top, night, edge = f[Z0], f[Z1], light[NIGHT], abs(u) / f[HW]
    low = foot + 0.48 * (top - foot) if shader == CAR_BODY else 0.7
    if edge > 0.84 and flags & (2 if u > 0 else 4) and not flags & 8:
        n = mark(spans, n, key, low - 0.1, low + 0.1, z, t, AMBER, light, gain, True)
    elif edge > 0.56:
        n = mark(spans, n, key, low, low + 0.17, z, t, HEADLAMP, light, gain, night > 0.3)
    elif shader == CAR_BODY:
        n = mark(spans, n, key, foot + 0.18, foot + 0.34, z, t, BLACK, light, gain, False)
    if shader == BUS:
        n = mark(spans, n, key, top - 1.55, top - 0.5, z, t, PANE, light, gain, False)
    return mark(spans, n, key, foot, foot + 0.12, z, t, BLACK, light, gain, False)


@fast_leaf
@no_type_check
def mark_side(spans, n, f, flags, shader, left, ahead, t, key, z, light, gain):  # type: ignore[no-untyped-def]
    """Add wheels, windows of a bus, and the indicator of this side."""
    reach, foot, top = f[HL], f[Z0], f[Z1]
    wheel = 0.33 if shader == CAR_BODY else 0.48
    for axle in (-1.0, 1.0):
        gap = ahead - axle * (0.62 * reach if shader == CAR_BODY else reach - 1.2 * wheel - 0.45)
        if abs(gap) < wheel:
            hub, rise = wheel * 0.55, sqrt(wheel * wheel - gap * gap)
            if abs(gap) < hub:
                half = sqrt(hub * hub - gap * gap)
                n = mark(spans, n, key - 1e-4, wheel - half, wheel + half, z, t, RIM, light, gain, False)
            n = mark(spans, n, key, wheel - rise, wheel + rise, z, t, TYRE, light, gain, False)
    if flags & (2 if left else 4) and ahead > reach - 0.5 and not flags & 8:
        n = mark(spans, n, key, top - 0.35, top - 0.15, z, t, AMBER, light, gain, True)
    n = mark(spans, n, key, foot, foot + 0.12, z, t, BLACK, light, gain, False)
    if shader == BUS:
        cell = (ahead + 50.0) / 1.5
        if abs(ahead) < reach - 0.35 and abs(cell - floor(cell) - 0.5) < 0.44:
            n = mark(spans, n, key, top * 0.50, top * 0.80, z, t, PANE, light, gain, light[NIGHT] > 0.5)
    return n


@fast_leaf
@no_type_check
def cut_sign(spans, n, f, code, dirx, diry, cam, light):  # type: ignore[no-untyped-def]
    """Cut a traffic sign and add what it shows there; its face throws headlights back."""
    cs, sn = f[COS], f[SIN]
    px, py = cam[0] - f[CX], cam[1] - f[CY]
    oy, dy = py * cs - px * sn, diry * cs - dirx * sn
    t, out, face = slab(f, px * cs + py * sn, oy, dirx * cs + diry * sn, dy, f[HL], f[HW], 0.0)
    if t >= out or t < 0.25 or face > 1:
        return n
    size, middle = 0.5 * (f[Z1] - f[Z0]), 0.5 * (f[Z0] + f[Z1])
    gain = light[AMBIENT] * face_light(cs, sn, face, light[SUN_SIDE])
    if light[HEAD] > 0.0:
        gain += headlight(light, cam[0] + t * dirx, cam[1] + t * diry) * (4.0 if face == 0 else 1.0)
    across = (oy + t * dy) / f[HW] * (-1.0 if code[FLAGS] & MIRRORED else 1.0)
    # A band becomes a span in its own row, or in one before it where some were empty.
    for k in range(n, plate(spans, n, code[FLAGS] & ~MIRRORED, across, face == 0)):
        b = spans[k]
        low, high, key = middle + b[LOWEST] * size, middle + b[HIGHEST] * size, t - 1e-4 * b[LAYER]
        n = mark(spans, n, key, low, high, cam[2], t, (b[2], b[3], b[4]), light, min(gain, 1.15), False)
    return n


@fast_leaf
@no_type_check
def cut_ellipsoid(spans, n, f, code, prim, dirx, diry, cam, light, wide):  # type: ignore[no-untyped-def]
    """Cut an upright ellipsoid of revolution: its stretch of slopes is exact."""
    px, py = f[CX] - cam[0], f[CY] - cam[1]
    along, aside = px * dirx + py * diry, py * dirx - px * diry
    radius = f[HL]
    if abs(aside) >= radius or along < radius + 0.3:
        return n
    slice_r = sqrt(radius * radius - aside * aside)
    stretch = (f[Z1] - f[Z0]) / (2.0 * radius)
    up = ((f[Z0] + f[Z1]) * 0.5 - cam[2]) / stretch
    reach = sqrt(along * along + up * up)
    if reach <= slice_r:
        return n
    middle, half = atan2(up, along), asin(slice_r / reach)
    low, high = sin(middle - half) / cos(middle - half) * stretch, sin(middle + half) / cos(middle + half) * stretch
    shader = code[SHADER]
    if shader == CROWN:
        if code[FLAGS] & MIRRORED:
            aside = -aside
        # Leaves do not end on a circle.
        x = aside * 2.7 + f[SEED] * 131.0
        high += (high - low) * 0.16 * (lattice(x, 3.1) - 0.6)
        low -= (high - low) * 0.16 * (lattice(x, 9.7) - 0.6)
    dist = along - slice_r
    x, y = cam[0] + dist * dirx, cam[1] + dist * diry
    gain = light[AMBIENT] * 0.92
    if light[HEAD] > 0.0:
        gain += headlight(light, x, y) * 0.8
    if shader == LAMP:
        # The face looks along its yaw: from the side and from behind a lamp shows nothing.
        facing = -(px * f[COS] + py * f[SIN]) / max(hypot(px, py), 1e-3)
        if facing < 0.25:
            return n
        lit = code[FLAGS] == 1
        return emit(spans, n, dist - 0.3, low, high, dist, f[RED], f[GREEN], f[BLUE], light, gain, lit)
    before = n
    n = emit(spans, n, dist, low, high, dist, f[RED], f[GREEN], f[BLUE], light, gain, False)
    if shader == CROWN and n > before:
        n = textured(spans, n, CROWN, aside, prim)
    return n


@fast_leaf
@no_type_check
def cut_box(spans, n, f, code, prim, dirx, diry, cam, light, levels, fine):  # type: ignore[no-untyped-def]
    """Cut a box or a tapered box; add its side, its top or underside, and marks on the side."""
    cs, sn = f[COS], f[SIN]
    px, py = cam[0] - f[CX], cam[1] - f[CY]
    ox, oy = px * cs + py * sn, py * cs - px * sn
    dx, dy = dirx * cs + diry * sn, diry * cs - dirx * sn
    t, out, face = slab(f, ox, oy, dx, dy, f[HL], f[HW], 0.0)
    if t >= out or t < 0.25:
        return n
    z, foot, top = cam[2], f[Z0], f[Z1]
    shader = code[SHADER]
    r, g, b = f[RED], f[GREEN], f[BLUE]
    bright = face_light(cs, sn, face, light[SUN_SIDE])
    beam = 0.0
    if light[HEAD] > 0.0:
        beam = headlight(light, cam[0] + t * dirx, cam[1] + t * diry)
    gain, flat = light[AMBIENT] * bright + beam, light[AMBIENT] * 1.04 + beam * 0.6
    inv = 1.0 / t
    glow = shader == STREET_LAMP and light[NIGHT] > 0.3
    if code[SHAPE] == BOX:
        if top < z:
            n = emit(spans, n, out, (top - z) * inv, (top - z) / out, t, r, g, b, light, flat, glow)
        elif foot > z:
            n = emit(spans, n, out, (foot - z) / out, (foot - z) * inv, t, r, g, b, light, gain * 0.5, glow)
        if shader in (CAR_BODY, BUS, CARGO):
            key = t - 2e-4
            if face == 0:
                n = mark_front(spans, n, f, code[FLAGS], shader, oy + t * dy, t, key, z, light, gain)
            elif face == 1:
                n = mark_rear(spans, n, f, code[FLAGS], shader, oy + t * dy, t, key, z, light, gain)
            elif shader != CARGO:
                n = mark_side(spans, n, f, code[FLAGS], shader, face == 2, ox + t * dx, t, key, z, light, gain)
        before = n
        n = emit(spans, n, t, (foot - z) * inv, (top - z) * inv, t, r, g, b, light, gain, glow)
        if shader == FACADE and n > before:
            u = oy + t * dy if face <= 1 else ox + t * dx
            if face <= 1 and code[FLAGS] & MIRRORED:  # windows are counted from the other corner
                u = -u
            n = textured(spans, n, FACADE, u + (f[HW] if face <= 1 else f[HL]), prim)
        return n
    # Tapered: cut at some heights and join the entries; the side then slopes.
    nearer, at, side = t, foot, face
    far = out
    for k in range(1, levels + 1):
        share = k / levels
        hl, hw = f[HL] + (f[HL2] - f[HL]) * share, f[HW] + (f[HW2] - f[HW]) * share
        t2, out2, face2 = slab(f, ox, oy, dx, dy, hl, hw, f[OX] * share)
        ends = t2 >= out2 or t2 < 0.25
        if ends:
            # The ray leaves over an edge between two cuts: find where.
            reached, missed = (k - 1) / levels, share
            t2, out2, face2 = nearer, far, side
            for _ in range(7 if fine else 3):
                half = 0.5 * (reached + missed)
                hl, hw = f[HL] + (f[HL2] - f[HL]) * half, f[HW] + (f[HW2] - f[HW]) * half
                t3, out3, face3 = slab(f, ox, oy, dx, dy, hl, hw, f[OX] * half)
                if t3 >= out3 or t3 < 0.25:
                    missed = half
                else:
                    reached, t2, out2, face2 = half, t3, out3, face3
            share = reached
        height = foot + (top - foot) * share
        lit = face_light(cs, sn, side, light[SUN_SIDE]) + (0.22 if shader == ROOF else 0.10)
        power = light[AMBIENT] * lit + beam
        cr, cg, cb = r, g, b
        if shader == GLASS:
            pillar = False
            if side >= 2:
                ahead = ox + nearer * dx
                pillar = abs(ahead + 0.05 * f[HL]) < 0.05 * f[HL]
            if not pillar and share < 0.99:
                sky = 0.5 + 0.5 * share
                cr, cg, cb = 40.0 + 34.0 * sky, 48.0 + 42.0 * sky, 56.0 + 50.0 * sky
            if side == 1 and code[FLAGS] & 1 and k == levels and abs(oy + nearer * dy) < 0.55 * f[HW]:
                # The third brake lamp.
                n = mark(spans, n, nearer - 1e-3, height - 0.16, height, z, t2, BRAKING, light, power, True)
        elif shader == CROWN:
            tuft = 0.72 + 0.5 * share + 0.16 * (k & 1)
            cr, cg, cb = r * tuft, g * tuft, b * tuft
        elif shader == ROOF:
            band = 0.95 + 0.05 * (k & 1)
            cr, cg, cb = r * band, g * band, b * band
        n = emit(spans, n, nearer, (at - z) / nearer, (height - z) / t2, nearer, cr, cg, cb, light, power, False)
        nearer, at, far, side = t2, height, out2, face2
        if ends:
            break
    if at < z:
        n = emit(spans, n, far, (at - z) / nearer, (at - z) / far, nearer, r, g, b, light, flat, False)
    return n


@fast_leaf
@no_type_check
def bins(cam, half_fov, scale, cylindrical, width, pixel_angle, order, floats, codes, table, counts):  # type: ignore[no-untyped-def]
    """List, for every pixel column, the solids that may show in it, nearest first."""
    cs, sn = cos(cam[3]), sin(cam[3])
    rim_c, rim_s = cos(half_fov), sin(half_fov)
    for k in range(width):
        counts[k] = 0
    for j in range(order.shape[0]):
        p = order[j]
        f = floats[p]
        px, py = f[CX] - cam[0], f[CY] - cam[1]
        ahead, left = px * cs + py * sn, py * cs - px * sn
        distance = sqrt(ahead * ahead + left * left)
        # Most of what is out of sight is so by a wide margin: no angles needed.
        beyond_left = ahead * rim_s - left * rim_c < -f[RAD]
        beyond_right = ahead * rim_s + left * rim_c < -f[RAD]
        if (beyond_left and beyond_right) or (rim_c >= 0.0 and (beyond_left or beyond_right)):
            continue
        low, high = -half_fov, half_fov
        if distance > f[RAD] + 0.05:
            middle = bearing(left, ahead)
            if codes[p, SHAPE] == ELLIPSOID:
                spread = half_width(min(f[HL] / distance, 1.0))
                low, high = middle - spread, middle + spread
            else:
                yc, ys = f[COS] * cs + f[SIN] * sn, f[SIN] * cs - f[COS] * sn
                low, high = 0.0, 0.0
                for corner in range(4):
                    a = f[HL] if corner < 2 else -f[HL]
                    b = f[HW] if corner % 2 == 0 else -f[HW]
                    qx, qy = ahead + a * yc - b * ys, left + a * ys + b * yc
                    turn = bearing(ahead * qy - left * qx, ahead * qx + left * qy)
                    low, high = min(low, turn), max(high, turn)
                low, high = low + middle, high + middle
            tiny = high - low < 0.25 * pixel_angle and f[Z1] - f[Z0] < 0.5 * distance * pixel_angle
            if tiny and codes[p, SHADER] != LAMP:
                continue
        low, high = low - 2.0 * BEARING_ERROR, high + 2.0 * BEARING_ERROR
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
