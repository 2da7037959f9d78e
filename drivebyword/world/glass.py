"""What is before a camera's sensor: a clean picture and the weather in, the picture through rain, sun and dirt out.

Nothing here runs in weather that asks for none of it. Dirt stays where it is for a scene, drops on the glass for a
second or two, streaks for a frame; all follow from the scene's seed and the frame's key.
"""

from __future__ import annotations

from math import cos, sin

import numpy as np
from jaxtyping import Float, UInt8

from drivebyword.core.rig import Weather

STRAY = 33.0
"""Share of white, times the squared angle from the sun in degrees, that strays into a picture at a glare of 1. The
Stiles-Holladay veil is 10 E / angle^2 cd/m2 (Vos, "Disability glare", CIE Journal, 1984); the low sun gives some
E = 20,000 lux on the lens, and 6,000 cd/m2 is white in a picture exposed for a sunlit street."""
WARM = np.array([1.0, 0.95, 0.84], np.float32)
MUD = np.array([96.0, 88.0, 74.0], np.float32)
STREAKS, STREAK_GAIN = 0.0016, 26.0
"""Streaks a pixel of the picture at 10 mm/h, and grey levels that one adds. Falling drops refract the sky and are
brighter than what is behind them (Garg and Nayar, "Vision and rain", IJCV, 2007)."""
DROPS, DROP_S = 26, 1.6
"""Places on the glass where drops may hang, and seconds until one has run off. A drop shows its surroundings upside
down (Halimeh and Roser, "Raindrop detection on car windshields", IV 2009)."""
BLOTCHES = 22
"""Blotches on the dirtiest lens; about a third of the picture (the opaque and semi-transparent soiling classes of
WoodScape: Uricar et al., "SoilingNet", 2019)."""


class Glass:
    """What one camera looks through.

    Args:
        rays: Unit vectors of the pixels, x ahead along the camera's axis, y left, z up.
        name: The camera's: two cameras are never equally dirty.
    """

    def __init__(self, rays: Float[np.ndarray, "H W 3"], name: str) -> None:
        self.rays = rays.astype(np.float32)
        self._name = int.from_bytes(name.encode()[:12], "little")
        self._dirt: tuple[tuple[int, float], np.ndarray] | None = None

    def through(
        self,
        picture: UInt8[np.ndarray, "H W 3"],
        weather: Weather,
        yaw: float,
        sun: float,
        time_s: float,
        scene: int,
        key: int,
    ) -> UInt8[np.ndarray, "H W 3"]:
        """Return the picture as the sensor gets it.

        Args:
            picture: Through clear air and clean glass.
            weather: Light and air.
            yaw: Of the camera's axis, map frame.
            sun: Share of the sun's disc that nothing hides from the camera.
            time_s: Since the scene began.
            scene: The scene's seed.
            key: Of the frame's noise.
        """
        out = picture.astype(np.float32)
        if weather.rain > 0.0:
            self._streak(out, weather, key)
            self._wet(out, weather.rain, time_s, scene)
        if weather.dirt > 0.0:
            share = self._soiled(weather.dirt, scene)[..., None]
            out += share * (0.45 * _blurred(out) + 0.55 * MUD * (1.0 - 0.8 * weather.night) - out)
        if sun > 0.0:
            self._glare(out, weather, yaw, sun)
        return np.clip(out + 0.5, 0.0, 255.0).astype(np.uint8)

    def _glare(self, out: Float[np.ndarray, "H W 3"], weather: Weather, yaw: float, sun: float) -> None:
        """Add the veil round the sun; the exposure falls with what it adds. Dirt strays more light."""
        up, ahead = sin(weather.sun_elevation), cos(weather.sun_elevation)
        azimuth = weather.sun_azimuth - yaw
        towards = np.array([ahead * cos(azimuth), ahead * sin(azimuth), up], np.float32)
        angle = np.degrees(np.arccos(np.clip(self.rays @ towards, -1.0, 1.0)))
        strength = STRAY * weather.glare * (1.0 + 1.5 * weather.dirt) * sun * (1.0 - weather.night)
        veil = strength / (angle * angle + 1.0)
        out *= 1.0 / (1.0 + 1.2 * float(np.minimum(veil, 1.0).mean()))
        out += 255.0 * np.minimum(veil, 4.0)[..., None] * WARM

    def _streak(self, out: Float[np.ndarray, "H W 3"], weather: Weather, key: int) -> None:
        """Draw falling drops: nearly upright, longer and brighter the nearer."""
        rows, columns = out.shape[:2]
        rng = np.random.default_rng([key, 41])
        # Drops over a millimetre in the near air, by Marshall and Palmer's distribution.
        dense = _drops_over(1.0, weather.rain) / _drops_over(1.0, 10.0)
        count = int(rng.poisson(STREAKS * rows * columns * dense))
        length = rng.uniform(0.04, 0.16, count) * rows
        lean, x, y = rng.normal(0.0, 0.08, count), rng.uniform(0, columns, count), rng.uniform(-0.1, 1.0, count) * rows
        gain = STREAK_GAIN * rng.uniform(0.3, 1.0, count) * (1.0 - 0.7 * weather.night)
        steps = np.arange(int(0.16 * rows) + 1)
        at_y = np.floor(y[:, None] + steps).astype(int)
        at_x = np.floor(x[:, None] + lean[:, None] * steps).astype(int)
        inside = (steps < length[:, None]) & (at_y >= 0) & (at_y < rows) & (at_x >= 0) & (at_x < columns)
        np.add.at(out, (at_y[inside], at_x[inside]), np.broadcast_to(gain[:, None], inside.shape)[inside][:, None])

    def _wet(self, out: Float[np.ndarray, "H W 3"], rain: float, time_s: float, scene: int) -> None:
        """Let drops hang on the glass, each upside down and blurred."""
        rows, columns = out.shape[:2]
        clean = out.copy()
        for slot in range(DROPS):
            phase = np.random.default_rng([scene, self._name, 43, slot]).random()
            turn = int(time_s / DROP_S + phase)
            rng = np.random.default_rng([scene, self._name, 47, slot, turn])
            if rng.random() > min(rain / 40.0, 1.0):
                continue
            x, y, radius = rng.random() * columns, rng.random() * rows, rng.uniform(0.02, 0.05) * rows + 1.2
            low, high = int(max(y - radius, 0)), int(min(y + radius + 1, rows))
            left, right = int(max(x - radius, 0)), int(min(x + radius + 1, columns))
            if low >= high or left >= right:
                continue
            v, u = np.mgrid[low:high, left:right]
            away = np.hypot(u - x, v - y) / radius
            mirror_v = np.clip(y - 5.0 * (v - y), 0, rows - 1).astype(int)
            mirror_u = np.clip(x - 5.0 * (u - x), 0, columns - 1).astype(int)
            share = np.clip(1.6 * (1.0 - away), 0.0, 0.85)[..., None]
            out[low:high, left:right] += share * (clean[mirror_v, mirror_u] - out[low:high, left:right])

    def _soiled(self, dirt: float, scene: int) -> Float[np.ndarray, "H W"]:
        """Return how much of every pixel's light dirt takes."""
        if self._dirt is None or self._dirt[0] != (scene, dirt):
            rows, columns = self.rays.shape[:2]
            rng = np.random.default_rng([scene, self._name, 53])
            v, u = np.mgrid[:rows, :columns].astype(np.float32)
            left = np.ones((rows, columns), np.float32)
            for k in range(BLOTCHES):
                x, y, radius, squeeze, turn, thick = rng.random(6)
                if k >= BLOTCHES * dirt:
                    continue
                du, dv = u - x * columns, v - y * rows
                a, b = du * cos(3.1 * turn) + dv * sin(3.1 * turn), dv * cos(3.1 * turn) - du * sin(3.1 * turn)
                far = np.hypot(a, b * (1.0 + 1.5 * squeeze)) / (rows * (0.05 + 0.17 * radius * radius))
                left *= 1.0 - (0.5 + 0.45 * thick) / (1.0 + np.exp(7.0 * (far - 1.0)))
            self._dirt = ((scene, dirt), 1.0 - left)
        return self._dirt[1]


def _drops_over(size: float, rain: float) -> float:
    """Return Marshall and Palmer's number of drops a cubic metre larger than `size` mm at a rain of mm/h."""
    slope = 4.1 * rain**-0.21
    return float(8000.0 / slope * np.exp(-slope * size))


def _blurred(picture: Float[np.ndarray, "H W 3"], cell: int = 8) -> Float[np.ndarray, "H W 3"]:
    """Return the picture averaged over cells, as far as whole cells go."""
    rows, columns = picture.shape[0] // cell * cell, picture.shape[1] // cell * cell
    if not rows or not columns:
        return picture
    small = picture[:rows, :columns].reshape(rows // cell, cell, columns // cell, cell, 3).mean((1, 3))
    row = np.minimum(np.arange(picture.shape[0]) // cell, len(small) - 1)
    column = np.minimum(np.arange(picture.shape[1]) // cell, small.shape[1] - 1)
    return small[row[:, None], column]
