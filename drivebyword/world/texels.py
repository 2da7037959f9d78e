"""Bilinear ground colours for the compiled camera: pixel coordinates in, red, green and blue out."""

from __future__ import annotations

from typing import no_type_check

from drivebyword.world.jit import fast_inlined


@fast_inlined
@no_type_check
def smooth(base, palette, mips, levels, x, y, level):  # type: ignore[no-untyped-def]
    """Return the bilinear ground colour at finest-level pixel coordinates."""
    size = 1.0 / (1 << level)
    fx, fy = max(x * size - 0.5, 0.0), max(y * size - 0.5, 0.0)
    kx, ky = min(int(fx), levels[level, 2] - 2), min(int(fy), levels[level, 1] - 2)
    ax, ay = min(fx - kx, 1.0), min(fy - ky, 1.0)
    if level == 0:
        a, b = palette[base[ky, kx]], palette[base[ky, kx + 1]]
        c, d = palette[base[ky + 1, kx]], palette[base[ky + 1, kx + 1]]
    else:
        at = levels[level, 0] + ky * levels[level, 2] + kx
        a, b = mips[at], mips[at + 1]
        at += levels[level, 2]
        c, d = mips[at], mips[at + 1]
    wa, wb, wc, wd = (1 - ax) * (1 - ay), ax * (1 - ay), (1 - ax) * ay, ax * ay
    red = wa * (a & 255) + wb * (b & 255) + wc * (c & 255) + wd * (d & 255)
    green = wa * ((a >> 8) & 255) + wb * ((b >> 8) & 255) + wc * ((c >> 8) & 255) + wd * ((d >> 8) & 255)
    blue = wa * ((a >> 16) & 255) + wb * ((b >> 16) & 255) + wc * ((c >> 16) & 255) + wd * ((d >> 16) & 255)
    return red, green, blue


@fast_inlined
@no_type_check
def close(patch, x, y):  # type: ignore[no-untyped-def]
    """Return the bilinear colour of the close-up at its pixel coordinates; red is -1 outside."""
    x, y = x - 0.5, y - 0.5
    if x < 0.0 or y < 0.0 or x >= patch.shape[1] - 1 or y >= patch.shape[0] - 1:
        return -1.0, 0.0, 0.0
    kx, ky = int(x), int(y)
    ax, ay = x - kx, y - ky
    a, b, c, d = patch[ky, kx], patch[ky, kx + 1], patch[ky + 1, kx], patch[ky + 1, kx + 1]
    wa, wb, wc, wd = (1 - ax) * (1 - ay), ax * (1 - ay), (1 - ax) * ay, ax * ay
    red = wa * (a & 255) + wb * (b & 255) + wc * (c & 255) + wd * (d & 255)
    green = wa * ((a >> 8) & 255) + wb * ((b >> 8) & 255) + wc * ((c >> 8) & 255) + wd * ((d >> 8) & 255)
    blue = wa * ((a >> 16) & 255) + wb * ((b >> 16) & 255) + wc * ((c >> 16) & 255) + wd * ((d >> 16) & 255)
    return red, green, blue
