"""The camera kernel: solids, ground and light in, one uint8 picture out.

Solids stand upright and cameras look level (a pitch is a vertical shift of the picture, as with a shift lens), so
every picture column is a vertical half-plane. A column meets a solid in at most one stretch of distance, which
covers one stretch of rows: rays are cast once a column, not once a pixel, and rows are covered exactly,
so edges are anti-aliased without more rays. `SUB` columns are cast for every pixel column.
"""

from __future__ import annotations

from math import cos, exp, floor, sin, sqrt
from typing import no_type_check

import numpy as np

from drivebyword.world.backdrop import backdrop
from drivebyword.world.faces import (
    DIST,
    GAIN,
    HAZE,
    HIGH,
    KEY,
    LOW,
    PRIM,
    SB,
    SG,
    SPANS,
    SR,
    TEX,
    U,
    bins,
    cut_box,
    cut_ellipsoid,
    cut_sign,
    slab,
)
from drivebyword.world.jit import fast_inlined, fast_leaf, outer
from drivebyword.world.light import (
    EXPOSURE,
    FOG_R,
    NIGHT,
    lattice,
    scramble,
)
from drivebyword.world.solids import (
    BLUE,
    COS,
    CROWN,
    CX,
    CY,
    ELLIPSOID,
    FACADE,
    GREEN,
    HL,
    HW,
    RAD,
    RED,
    SEED,
    SHADER,
    SHADOW,
    SHAPE,
    SIGN,
    SIN,
    Z0,
    Z1,
)

CALLED = "4351556a598d"
"""Content of the files whose compiled functions are called here: numba's cache watches this file alone."""


@fast_inlined
@no_type_check
def _window_share(z, floor_height):  # type: ignore[no-untyped-def]
    """Integrate, from the ground to z, the rows of windows: 45% of every storey."""
    storey = z / floor_height
    k = floor(storey)
    return (k * 0.45 + min(max(storey - k - 0.30, 0.0), 0.45)) * floor_height


@fast_leaf
@no_type_check
def _fill(spans, k, rem, acc, f, g, cy, cam_z, light, step):  # type: ignore[no-untyped-def]
    """Paint one span into its column where nothing nearer is; returns the weight painted."""
    s = spans[k]
    rows = rem.shape[0]
    upper, lower = max(cy - s[HIGH] * g, 0.0), min(cy - s[LOW] * g, float(rows))
    if upper >= lower:
        return 0.0
    tex = int(s[TEX])
    r = gr = b = painted = 0.0
    fog, gain, dist = -1.0, s[GAIN], s[DIST]
    share_u, cell, pitch, plinth, cornice = 0.0, 0, 0.0, 0.0, 0.0
    if tex == FACADE:
        pitch = 2.3 + 1.3 * scramble(int(f[SEED] * 65536), 1, 0)
        part = 0.46 + 0.2 * scramble(int(f[SEED] * 65536), 2, 0)
        cell = int(s[U] / pitch)
        mean = min(max(2.0 * dist * step / pitch - 0.4, 0.0), 1.0)
        inside = 1.0 if abs(s[U] / pitch - cell - 0.5) < part * 0.5 else 0.0
        share_u = (1.0 - mean) * inside + mean * part
        plinth, cornice = f[Z0] + 0.45, f[Z1] - 0.35
    for row in range(int(upper), min(int(lower) + 1, rows)):
        if rem[row] <= 0.0:
            continue
        a, z = max(upper, float(row)), min(lower, row + 1.0)
        cover = min(z - a, rem[row])
        if cover <= 0.0:
            continue
        rem[row] -= cover
        painted += cover
        if fog < 0.0:  # most spans stand behind others: only those that show ask what the air takes
            fog = exp(-s[HAZE])
            r = s[SR] * fog + light[FOG_R] * (1.0 - fog)
            gr = s[SG] * fog + light[FOG_R + 1] * (1.0 - fog)
            b = s[SB] * fog + light[FOG_R + 2] * (1.0 - fog)
        cr, cg, cb = r, gr, b
        if tex == FACADE:
            high, low = cam_z + (cy - a) / g * dist, cam_z + (cy - z) / g * dist
            tone = 0.0
            if low < plinth:
                tone = -0.22 * min((plinth - low) / max(high - low, 1e-4), 1.0)
            elif high > cornice:
                tone = 0.12 * min((high - cornice) / max(high - low, 1e-4), 1.0)
            if tone != 0.0:
                own = tone * gain * fog
                cr, cg, cb = cr + f[RED] * own, cg + f[GREEN] * own, cb + f[BLUE] * own
            elif share_u > 0.0:
                share = share_u * (_window_share(high, 3.1) - _window_share(low, 3.1)) / max(high - low, 1e-4)
                pane = scramble(int(f[SEED] * 65536), cell, int(high * (1.0 / 3.1)) + 7)
                wr, wg, wb = 58.0 + 30.0 * pane, 72.0 + 32.0 * pane, 88.0 + 34.0 * pane
                power = gain
                if light[NIGHT] > 0.3 and pane < 0.34:
                    wr, wg, wb, power = 250.0, 206.0, 128.0, 0.85
                cr += share * (wr * power - f[RED] * gain) * fog
                cg += share * (wg * power - f[GREEN] * gain) * fog
                cb += share * (wb * power - f[BLUE] * gain) * fog
        elif tex == CROWN:
            at = ((cy - 0.5 * (a + z)) / g - s[LOW]) / (s[HIGH] - s[LOW])
            height = cam_z + (cy - 0.5 * (a + z)) / g * dist
            x, y = s[U] * 2.2 + f[SEED] * 97.0, height * 2.2
            tuft = 0.6 * lattice(x, y) + 0.4 * lattice(2.3 * x, 2.3 * y) - 0.5
            shade = 0.58 + 0.52 * at + 0.55 * tuft * min(1.0, 0.02 / (dist * step))
            # Only the leaves' own light is shaded, not the fog before them.
            own = (shade - 1.0) * gain * fog
            cr, cg, cb = cr + f[RED] * own, cg + f[GREEN] * own, cb + f[BLUE] * own
        acc[row, 0] += cr * cover
        acc[row, 1] += cg * cover
        acc[row, 2] += cb * cover
    return painted


@fast_leaf
@no_type_check
def _shadow(f, dirx, diry, cam, g, cy, shade):  # type: ignore[no-untyped-def]
    """Darken the rows where a flat shadow lies."""
    px, py = cam[0] - f[CX], cam[1] - f[CY]
    cs, sn = f[COS], f[SIN]
    t, out, _ = slab(
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


@fast_leaf
@no_type_check
def _develop(image, out, gain, key, noise):  # type: ignore[no-untyped-def]
    """Expose, add read and shot noise, and round to bytes; a flat loop, so that it runs on vector units."""
    low, high = np.uint32(key & np.uint64(0xFFFFFFFF)), np.uint32(key >> np.uint64(32))
    read, shot = np.float32(noise[0] * noise[0]), np.float32(noise[1])
    bright, half, top = np.float32(gain), np.float32(0.5), np.float32(255.0)
    # Four bytes summed are close enough to a bell.
    middle, scale = np.float32(510.0), np.float32(1.0 / 147.8)
    for k in range(image.shape[0]):
        # A 32-bit mix ("lowbias32"): 64-bit multiplications would not vectorise everywhere.
        x = np.uint32(np.uint32(k) ^ low)
        x = np.uint32((x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D) + high)
        x = np.uint32((x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B))
        x = np.uint32(x ^ (x >> np.uint32(16)))
        pairs = np.uint32((x & np.uint32(0x00FF00FF)) + ((x >> np.uint32(8)) & np.uint32(0x00FF00FF)))
        total = np.float32(np.int32((pairs & np.uint32(0xFFFF)) + (pairs >> np.uint32(16))))
        value = min(image[k] * bright, np.float32(262.0))
        value += (total - middle) * scale * np.sqrt(read + shot * value)
        out[k] = np.uint8(min(max(value + half, np.float32(0.0)), top))


@fast_leaf
@no_type_check
def _paint(
    out,
    cam,
    half_fov,
    scale,
    cylindrical,
    rays,
    cy,
    row_level,
    row_taps,
    row_inverse,
    row_fog,
    sky,
    order,
    floats,
    codes,
    base,
    palette,
    mips,
    levels,
    origin,
    light,
    fine,
    patch,
    patch_at,
    image,
    table,
    counts,
    spans,
    sorted_spans,
    rem,
    shade,
    acc,
):  # type: ignore[no-untyped-def]
    """Paint `image`; arguments are those of `render`, and scratch."""
    height, width = out.shape[0], out.shape[1]
    subs = rays.shape[0] // width
    bins(cam, half_fov, scale, cylindrical, width, half_fov * 2.0 / width, order, floats, codes, table, counts)
    cs, sn = cos(cam[3]), sin(cam[3])
    step = 2.0 * half_fov / rays.shape[0]
    cuts = fine if fine else 3
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
                if wall < 1e9:
                    dx, dy = f[CX] - cam[0], f[CY] - cam[1]
                    near = sqrt(dx * dx + dy * dy) - f[RAD]
                    rise = f[Z1] - cam[2]
                    if near > wall and rise < wall_slope * (near if rise > 0.0 else near + 2.0 * f[RAD]):
                        continue
                before = n
                if shape == ELLIPSOID:
                    n = cut_ellipsoid(spans, n, f, codes[p], p, dirx, diry, cam, light, step)
                elif codes[p, SHADER] == SIGN:
                    n = cut_sign(spans, n, f, codes[p], dirx, diry, cam, light)
                else:
                    n = cut_box(spans, n, f, codes[p], p, dirx, diry, cam, light, cuts, fine > 0)
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
                f = floats[int(spans[s, PRIM])] if spans[s, TEX] >= 0.0 else floats[0]
                left -= _fill(spans, s, rem, acc, f, g, cy, cam[2], light, step)
                if left <= 1e-3:
                    break
            if left <= 1e-3:
                continue
            backdrop(
                acc, rem, shade, sub, dirx, diry, g, cam, cy, row_level, row_taps, row_inverse, row_fog, sky, base,
                palette, mips, levels, origin, light, fine, patch, patch_at,
            )  # fmt: skip
        for row in range(height):
            for c in range(3):
                image[row, col, c] = acc[row, c]


@outer
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
    row_inverse,
    row_fog,
    sky,
    order,
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
    patch,
    patch_at,
    image,
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
        row_inverse: 1 / (rows below the horizon) of every sample: row, sub-column, sample.
        row_fog: Share of the ground's own light that arrives, at every row.
        sky: Colour of the sky at every row.
        order: Rows of the table, nearest first.
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
        patch: Close-up of the ground, packed colours (fine only).
        patch_at: x min, y min, pixel of the close-up.
        image: Scratch, rows x columns x 3 float32.
        table: Scratch, columns x CANDIDATES.
        counts: Scratch, columns.
    """
    height = out.shape[0]
    spans, sorted_spans = np.empty((SPANS, 12), np.float64), np.empty(SPANS, np.int64)
    rem, shade, acc = np.empty(height, np.float64), np.empty(height, np.float64), np.empty((height, 3), np.float64)
    _paint(
        out, cam, half_fov, scale, cylindrical, rays, cy, row_level, row_taps, row_inverse, row_fog, sky, order,
        floats, codes, base, palette, mips, levels, origin, light, fine, patch, patch_at, image, table, counts, spans,
        sorted_spans, rem, shade, acc,
    )  # fmt: skip
    subs = rays.shape[0] // out.shape[1]
    _develop(image.reshape(-1), out.reshape(-1), light[EXPOSURE] / subs, key, noise)
