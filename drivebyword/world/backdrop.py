"""What a picture column shows where no solid is: rays in, sky and ground added to the column."""

from __future__ import annotations

from math import hypot
from typing import no_type_check

import numpy as np

from drivebyword.world.jit import fast_inlined
from drivebyword.world.light import AMBIENT, FOG_R, HEAD, HOR_R, ICE, NIGHT, WET, headlight, lattice
from drivebyword.world.texels import close, smooth


@fast_inlined
@no_type_check
def backdrop(  # type: ignore[no-untyped-def]
    acc, rem, shade, sub, dirx, diry, g, cam, cy, row_level, row_taps, row_inverse, row_fog, sky, base,
    palette, mips, levels, origin, light, fine, patch, patch_at,
):  # fmt: skip
    """Add sky and ground to `acc`, by the weight `rem` that every row has left; the rest as in `kernel.render`."""
    height = rem.shape[0]
    inv_pixel = 1.0 / origin[2]
    at_x, at_y = (cam[0] - origin[0]) * inv_pixel, (cam[1] - origin[1]) * inv_pixel
    patch_x, patch_y = (patch_at[0] - origin[0]) * inv_pixel, (patch_at[1] - origin[1]) * inv_pixel
    finer = origin[2] / max(patch_at[2], 1e-6)
    base_rows, base_cols = base.shape[0] - 1, base.shape[1] - 1
    # Two bytes of a packed colour are summed in one word: up to 256 samples fit.
    zero, mask, low16 = np.uint32(0), np.uint32(0x00FF00FF), np.uint32(0xFFFF)
    eight, sixteen = np.uint32(8), np.uint32(16)
    ambient, head, ice, wet, night = light[AMBIENT], light[HEAD], light[ICE], light[WET], light[NIGHT]
    fog_r, fog_g, fog_b = light[FOG_R], light[FOG_R + 1], light[FOG_R + 2]
    reach = cam[2] * g * inv_pixel
    for row in range(height):
        weight = rem[row]
        if weight <= 1e-3:
            continue
        below = row + 0.5 - cy
        if below <= 0.02:
            haze = 0.0
            if fine and below < -0.03 * g and night < 0.5:
                # Clouds on a plane overhead.
                aloft = 3.0 * g / -below
                cx, cz = aloft * dirx, aloft * diry
                puff = 0.55 * lattice(cx * 0.35, cz * 0.35) + 0.3 * lattice(cx, cz) + 0.15 * lattice(cx * 2.7, cz * 2.7)
                haze = min(max((puff - 0.48) * 2.6, 0.0), 1.0) * min(-below / g * 4.0, 0.75) * row_fog[0]
            for c in range(3):
                acc[row, c] += weight * (sky[row, c] * (1.0 - haze) + 246.0 * haze)
            continue
        level, taps = row_level[row], row_taps[row]
        if fine:
            red, green, blue = 0.0, 0.0, 0.0
            for tap in range(taps):
                d = reach * row_inverse[row, sub, tap]
                gx, gy = at_x + d * dirx, at_y + d * diry
                sr, sg, sb = -1.0, 0.0, 0.0
                if level == 0:
                    sr, sg, sb = close(patch, (gx - patch_x) * finer, (gy - patch_y) * finer)
                if sr < 0.0:
                    sr, sg, sb = smooth(base, palette, mips, levels, gx, gy, level)
                red, green, blue = red + sr, green + sg, blue + sb
        elif level == 0:
            even, odd = zero, zero
            for tap in range(taps):
                d = reach * row_inverse[row, sub, tap]
                ix, iy = int(at_x + d * dirx), int(at_y + d * diry)
                word = palette[base[min(max(iy, 0), base_rows), min(max(ix, 0), base_cols)]]
                even += word & mask
                odd += (word >> eight) & mask
            red, green, blue = float(even & low16), float(odd & low16), float(even >> sixteen)
        else:
            even, odd = zero, zero
            start, rows, cols = levels[level, 0], levels[level, 1], levels[level, 2]
            for tap in range(taps):
                d = reach * row_inverse[row, sub, tap]
                ix, iy = int(at_x + d * dirx) >> level, int(at_y + d * diry) >> level
                word = mips[start + min(max(iy, 0), rows - 1) * cols + min(max(ix, 0), cols - 1)]
                even += word & mask
                odd += (word >> eight) & mask
            red, green, blue = float(even & low16), float(odd & low16), float(even >> sixteen)
        gain = ambient
        if head > 0.0:
            d = cam[2] * g / below
            gain += headlight(light, cam[0] + d * dirx, cam[1] + d * diry)
        see = row_fog[row]
        power = gain * shade[row] * see * weight / taps
        veil = weight * (1.0 - see)
        if ice > 0.0:  # a slippery road mirrors the sky, the more the flatter one looks
            mirror = ice * (0.25 + 0.6 / (1.0 + below * below / (0.02 * g * g)))
            power *= 1.0 - mirror
            for c in range(3):
                acc[row, c] += weight * see * mirror * light[HOR_R + c]
        if wet > 0.0:  # water darkens, and mirrors by Fresnel's law (Schlick's form), roughly
            slant = 1.0 - below / hypot(below, g)
            mirror = 0.6 * wet * (0.02 + 0.98 * slant**5)
            power *= (1.0 - 0.42 * wet) * (1.0 - mirror)
            for c in range(3):
                acc[row, c] += weight * see * mirror * light[HOR_R + c]
        acc[row, 0] += red * power + veil * fog_r
        acc[row, 1] += green * power + veil * fog_g
        acc[row, 2] += blue * power + veil * fog_b
