"""Light and air: the Weather in, a vector the kernels read out; and small compiled functions on it.

Files whose compiled functions kernel.py calls are named by content there (`CALLED`), because numba's cache only
watches the file of the function it compiled.
"""

from __future__ import annotations

import functools
from math import cos, floor, sin
from typing import no_type_check

import numpy as np
from jaxtyping import Float

from drivebyword.core.rig import Weather
from drivebyword.world.jit import fast_inlined
from drivebyword.world.solids import SUN

SUN_X, SUN_Y, SUN_Z = SUN
# Ambient gain, headlight gain, 1 / visibility, night, exposure; fog, zenith and horizon colours; ego pose; ice; wet.
AMBIENT, HEAD, INV_VIS, NIGHT, EXPOSURE = range(5)
FOG_R, ZEN_R, HOR_R = 5, 8, 11
EGO_X, EGO_Y, EGO_C, EGO_S = range(14, 18)
ICE, WET = 18, 19
SUN_SIDE = 20
"""1, or -1 in a mirror image, whose sun is mirrored too."""
LIGHT_SIZE = 21


@fast_inlined
@no_type_check
def scramble(a, b, c):  # type: ignore[no-untyped-def]
    """Mix three small integers into [0, 1)."""
    h = (a * 374761393 + b * 668265263 + c * 2147483647) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    return ((h ^ (h >> 16)) & 0xFFFF) * (1.0 / 65536.0)


@fast_inlined
@no_type_check
def lattice(x, y):  # type: ignore[no-untyped-def]
    """Return smooth noise in [0, 1) at a place."""
    kx, ky = floor(x), floor(y)
    a, b = x - kx, y - ky
    a, b = a * a * (3.0 - 2.0 * a), b * b * (3.0 - 2.0 * b)
    i, j = int(kx), int(ky)
    low = scramble(i, j, 1) * (1 - a) + scramble(i + 1, j, 1) * a
    return low * (1 - b) + (scramble(i, j + 1, 1) * (1 - a) + scramble(i + 1, j + 1, 1) * a) * b


@fast_inlined
@no_type_check
def headlight(light, x, y):  # type: ignore[no-untyped-def]
    """Return what the ego's low beam adds at a place."""
    dx, dy = x - light[EGO_X], y - light[EGO_Y]
    ahead = dx * light[EGO_C] + dy * light[EGO_S] - 3.7
    if ahead < 0.2:
        return 0.0
    side = (dy * light[EGO_C] - dx * light[EGO_S]) / (ahead + 1.5)
    cone = 1.0 + 3.0 * side * side
    far = ahead * (1.0 / 28.0)
    return light[HEAD] / (cone * cone * (1.0 + far * far))


@fast_inlined
@no_type_check
def face_light(cs, sn, face, side):  # type: ignore[no-untyped-def]
    """Sun on a side face: 0 front, 1 rear, 2 left, 3 right. `side` is SUN_SIDE's value."""
    sun_y = SUN_Y * side
    if face == 0:
        toward = cs * SUN_X + sn * sun_y
    elif face == 1:
        toward = -cs * SUN_X - sn * sun_y
    elif face == 2:
        toward = -sn * SUN_X + cs * sun_y
    else:
        toward = sn * SUN_X - cs * sun_y
    return 0.66 + 0.40 * toward if toward > 0 else 0.66 + 0.10 * toward


def light_of(
    weather: Weather, ego: Float[np.ndarray, " 6"], exposure: float = 1.0, sun_side: float = 1.0
) -> Float[np.ndarray, " 21"]:
    """Turn the weather into the kernel's light vector."""
    light = _daylight(weather).copy()
    light[EXPOSURE], light[SUN_SIDE] = exposure, sun_side
    light[EGO_X], light[EGO_Y] = ego[0], ego[1]
    light[EGO_C], light[EGO_S] = cos(ego[2]), sin(ego[2])
    return light


@functools.lru_cache(maxsize=64)
def _daylight(weather: Weather) -> Float[np.ndarray, " 21"]:
    day, dark = 1.0 - weather.night, weather.night
    light = np.zeros(LIGHT_SIZE)
    light[AMBIENT] = 0.16 + 0.84 * day
    light[HEAD] = 0.75 * dark
    light[INV_VIS] = 1.0 / weather.fog_visibility
    light[NIGHT] = dark
    light[ICE] = weather.ice
    fogginess = min(1.0, 200.0 / weather.fog_visibility)
    grey, blue = np.array([200.0, 204.0, 206.0]), np.array([206.0, 220.0, 234.0])
    light[FOG_R : FOG_R + 3] = (blue + (grey - blue) * fogginess) * day + np.array([22.0, 24.0, 30.0]) * dark
    light[ZEN_R : ZEN_R + 3] = np.array([98.0, 150.0, 214.0]) * day + np.array([8.0, 10.0, 22.0]) * dark
    light[HOR_R : HOR_R + 3] = blue * day + np.array([28.0, 30.0, 42.0]) * dark
    if weather.rain > 0.0:
        _overcast(light, weather)
    return light


def _overcast(light: Float[np.ndarray, " 21"], weather: Weather) -> None:
    """Draw clouds over the sky, rain into the air and water onto the road."""
    cloud = min(1.0, 0.4 + weather.rain / 10.0)
    light[INV_VIS] += weather.rain_extinction
    light[AMBIENT] *= 1.0 - 0.28 * cloud
    light[WET] = min(1.0, 0.5 + weather.rain / 10.0)
    grey = np.array([150.0, 156.0, 162.0]) * (1.0 - weather.night) + np.array([16.0, 18.0, 24.0]) * weather.night
    for at in (FOG_R, ZEN_R, HOR_R):
        light[at : at + 3] += cloud * (grey - light[at : at + 3])
