"""The ground as a picture: a RoadMap (and scenery, for its shadows) in, a pyramid of RGB + intensity out.

The finest level is one material byte a pixel, looked up in PALETTE; coarser levels are packed RGBA words whose
fourth byte is the LiDAR intensity. Rasters are kept on disk by content, without their texture, which is cheap
to put back.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import no_type_check

import numba as nb
import numpy as np
from jaxtyping import Float, Int, UInt8, UInt32
from PIL import Image, ImageDraw

from drivebyword.core.places import cache_folder
from drivebyword.world.kept import Columns, kept, named
from drivebyword.world.markings import Material, Shape, paint, surfaces
from drivebyword.world.roads import RoadMap
from drivebyword.world.scenery import Scenery

GROUND_VERSION = 4
"""Part of the cache key: raise it when the same town would be painted otherwise."""
MARGIN = 45.0
PIXEL = 0.125
PIXELS_MAX = 14e6
SHADOW_BIT = 64
BLOCK = 64
"""Pixels of the finest level in one of the coarsest that sensors read."""

# Material: red, green, blue, LiDAR intensity, strength of the texture.
_LOOK = {
    Material.GRASS: (98, 132, 66, 95, 0.16),
    Material.ASPHALT: (92, 93, 97, 30, 0.05),
    Material.ASPHALT_SLOW: (132, 92, 82, 42, 0.05),
    Material.ASPHALT_FAST: (74, 76, 84, 26, 0.05),
    Material.SIDEWALK: (168, 163, 154, 80, 0.05),
    Material.KERB: (202, 199, 192, 105, 0.03),
    Material.WHITE: (238, 238, 234, 225, 0.02),
    Material.YELLOW: (240, 190, 40, 205, 0.02),
    Material.RED: (156, 50, 46, 150, 0.02),
    Material.PAVING: (150, 142, 130, 75, 0.06),
    Material.ZEBRA_GAP: (84, 85, 89, 28, 0.05),
    Material.EARTH: (52, 52, 56, 35, 0.04),
}
SHADE = np.array([0.60, 0.63, 0.72])


def _palette() -> np.ndarray:
    """Pack every material, texture step and shadow into RGBA words."""
    words = np.zeros(128, np.uint32)
    for material, (*rgb, intensity, strength) in _LOOK.items():
        for step in range(4):
            for dark in (0, 1):
                colour = np.array(rgb) * (1.0 + strength * (step - 1.5) / 1.5) * (SHADE if dark else 1.0)
                r, g, b = (int(v) for v in np.clip(colour, 0, 255))
                words[material | step << 4 | dark * SHADOW_BIT] = r | g << 8 | b << 16 | intensity << 24
    return words


PALETTE = _palette()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A town's ground. Row index grows with y, column index with x."""

    x_min: float
    y_min: float
    pixel: float
    """Metres a pixel at the finest level; every further level doubles it."""
    base: UInt8[np.ndarray, "H W"]
    """Material | texture step << 4 | shadow << 6."""
    mips: UInt32[np.ndarray, " N"]
    """Levels 1 and up, one after the other."""
    levels: Int[np.ndarray, "L 3"]
    """Of every level: offset into `mips`, rows, columns. Row 0 speaks of `base`."""

    def mirrored(self) -> Ground:
        """Return the mirror image about the x axis, on the mirrored grid of pixels.

        Rows are added beyond one border, alike to its own, so that every level that sensors read ends on a pixel.
        """
        rows = -(-len(self.base) // BLOCK) * BLOCK
        parts, levels = [], []
        for level, (start, have, cols) in enumerate(self.levels.tolist()):
            words = self.base if level == 0 else self.mips[start : start + have * cols].reshape(have, cols)
            grown = max(rows >> level, have)
            parts.append(np.pad(words, ((0, grown - have), (0, 0)), mode="edge")[::-1])
            levels.append((sum(p.size for p in parts[1:-1]), grown, cols))
        return Ground(
            x_min=self.x_min,
            y_min=-(self.y_min + rows * self.pixel),
            pixel=self.pixel,
            base=np.ascontiguousarray(parts[0]),
            mips=np.concatenate([part.ravel() for part in parts[1:]]),
            levels=np.array(levels, np.int64),
        )

    @staticmethod
    def build(road_map: RoadMap, scenery: Scenery | None = None, cache_dir: Path | None = None) -> Ground:
        """Paint a town, or read it from the cache."""
        x0, y0, x1, y1 = (float(v) for v in road_map.bounds)
        x0, y0, x1, y1 = x0 - MARGIN, y0 - MARGIN, x1 + MARGIN, y1 + MARGIN
        pixel = max(PIXEL, float(np.sqrt((x1 - x0) * (y1 - y0) / PIXELS_MAX)))
        # Even sides keep the first reductions exact.
        shape = (int((y1 - y0) / pixel) // 2 * 2, int((x1 - x0) / pixel) // 2 * 2)
        above = scenery.digest() if scenery else ""
        file = named(cache_dir or cache_folder("ground"), GROUND_VERSION, road_map.id, f"{pixel:.6f}", shape, above)
        runs = kept(file, lambda: _runs(_rasterise(road_map, scenery, x0, y0, pixel, shape)))
        base = np.repeat(runs["material"], runs["length"]).reshape(shape)
        _texture(base, *texture_tiles())
        levels, mips = _pyramid(base)
        return Ground(x_min=x0, y_min=y0, pixel=pixel, base=base, mips=mips, levels=levels)

    def picture(
        self, pose: Float[np.ndarray, " 3"], size: int, across: float, ego_row: float
    ) -> UInt8[np.ndarray, "size size 3"]:
        """Draw a square of `across` metres, heading up, with `pose` at the middle column and row `ego_row`."""
        level = min(max(round(float(np.log2(across / size / self.pixel))), 1), len(self.levels) - 1)
        pixel = self.pixel * 2**level
        start, rows, cols = (int(v) for v in self.levels[level])
        out = np.empty((size, size, 3), np.uint8)
        at = ((float(pose[0]) - self.x_min) / pixel - 0.5, (float(pose[1]) - self.y_min) / pixel - 0.5)
        step = across / size / pixel
        turn = (float(np.cos(pose[2])) * step, float(np.sin(pose[2])) * step)
        _turned(self.mips[start : start + rows * cols].reshape(rows, cols), at, turn, ego_row, out)
        return out

    def material(self, points: Float[np.ndarray, "P 2"]) -> Int[np.ndarray, " P"]:
        """Return the Material under map-frame points; GRASS outside."""
        cols = ((points[:, 0] - self.x_min) / self.pixel).astype(int)
        rows = ((points[:, 1] - self.y_min) / self.pixel).astype(int)
        inside = (cols >= 0) & (rows >= 0) & (cols < self.base.shape[1]) & (rows < self.base.shape[0])
        found = np.zeros(len(points), np.int64)
        found[inside] = self.base[rows[inside], cols[inside]] & 15
        return found


def _runs(base: np.ndarray) -> Columns:
    """Return an uncoloured ground as runs of one material: a third of the time to read that it takes compressed."""
    flat = base.reshape(-1)
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    return {"material": flat[starts], "length": np.diff(np.append(starts, flat.size)).astype(np.uint32)}


def _rasterise(
    road_map: RoadMap, scenery: Scenery | None, x0: float, y0: float, pixel: float, shape: tuple[int, int]
) -> np.ndarray:
    image = Image.new("L", (shape[1], shape[0]), int(Material.GRASS))
    draw = ImageDraw.Draw(image)
    origin = np.array([x0, y0])

    def fill(shapes: Iterable[Shape]) -> None:
        for material, polygon in shapes:
            draw.polygon(((polygon - origin) / pixel).ravel().tolist(), fill=int(material))

    if scenery is not None:
        fill((Material.PAVING, polygon) for polygon in scenery.footprints(1.2))
    fill(surfaces(road_map))
    fill(paint(road_map))
    base = np.array(image)
    if scenery is not None:
        dark = Image.new("L", image.size, 0)
        shade = ImageDraw.Draw(dark)
        for polygon in scenery.shadows():
            shade.polygon(((polygon - origin) / pixel).ravel().tolist(), fill=SHADOW_BIT)
        base |= np.array(dark)
    return base


@functools.lru_cache(maxsize=1)
def texture_tiles() -> tuple[UInt8[np.ndarray, "512 512"], UInt8[np.ndarray, "512 512"]]:
    """Make two seamless texture tiles of steps 0 to 3: a fine grain, and grass with patches."""
    rng = np.random.default_rng(20)
    grain = rng.integers(0, 4, (512, 512)).astype(np.uint8)
    wave = np.zeros((512, 512))
    at = np.arange(512) * (2 * np.pi / 512)
    for _ in range(24):
        kx, ky, phase = rng.integers(-24, 25), rng.integers(-24, 25), rng.uniform(0, 6.28)
        wave += np.cos(kx * at[None] + ky * at[:, None] + phase) / (1 + 0.08 * np.hypot(kx, ky))
    wave = 1.5 + 0.55 * wave / wave.std() + rng.normal(0, 0.6, wave.shape)
    return grain, np.clip(np.round(wave), 0, 3).astype(np.uint8)


@nb.njit(cache=True, nogil=True)
@no_type_check
def _texture(base, grain, grass):  # type: ignore[no-untyped-def]
    """Add the texture step to every pixel, in place."""
    for i in range(base.shape[0]):
        for j in range(base.shape[1]):
            m = base[i, j] & 15
            if m == 0:
                step = grass[i & 511, j & 511]
            else:
                # Two by two pixels: a grain of 25 cm.
                step = grain[(i >> 1) & 511, (j >> 1) & 511]
            base[i, j] |= step << 4


@nb.njit(cache=True, nogil=True, inline="always")
@no_type_check
def _mean(a, b, c, d):  # type: ignore[no-untyped-def]
    """Average four packed words, byte by byte."""
    # Two bytes of each word side by side, with room to carry.
    half, two = nb.uint32(0x00FF00FF), nb.uint32(0x00020002)
    even = ((a & half) + (b & half) + (c & half) + (d & half) + two) >> nb.uint32(2)
    a, b, c, d = a >> nb.uint32(8), b >> nb.uint32(8), c >> nb.uint32(8), d >> nb.uint32(8)
    odd = ((a & half) + (b & half) + (c & half) + (d & half) + two) >> nb.uint32(2)
    return nb.uint32((even & half) | ((odd & half) << nb.uint32(8)))


@nb.njit(cache=True, nogil=True)
@no_type_check
def _halve_base(base, palette, out):  # type: ignore[no-untyped-def]
    rows, cols = base.shape[0] // 2, base.shape[1] // 2
    for i in range(rows):
        for j in range(cols):
            a, b = palette[base[2 * i, 2 * j]], palette[base[2 * i, 2 * j + 1]]
            c, d = palette[base[2 * i + 1, 2 * j]], palette[base[2 * i + 1, 2 * j + 1]]
            out[i * cols + j] = _mean(a, b, c, d)


@nb.njit(cache=True, nogil=True)
@no_type_check
def _halve(fine, width, out, rows, cols):  # type: ignore[no-untyped-def]
    for i in range(rows):
        for j in range(cols):
            k = 2 * i * width + 2 * j
            out[i * cols + j] = _mean(fine[k], fine[k + 1], fine[k + width], fine[k + width + 1])


@nb.njit(cache=True, nogil=True)
@no_type_check
def _turned(words, at, turn, ego_row, out):  # type: ignore[no-untyped-def]
    """Sample a level bilinearly on a turned square grid; the border's colour goes on for ever."""
    rows, cols = words.shape
    for i in range(out.shape[0]):
        ahead = ego_row - (i + 0.5)
        for j in range(out.shape[1]):
            left = 0.5 * out.shape[1] - (j + 0.5)
            x = min(max(at[0] + ahead * turn[0] - left * turn[1], 0.0), cols - 1.001)
            y = min(max(at[1] + ahead * turn[1] + left * turn[0], 0.0), rows - 1.001)
            k, m = int(x), int(y)
            u, v = x - k, y - m
            a, b, c, d = words[m, k], words[m, k + 1], words[m + 1, k], words[m + 1, k + 1]
            for s in range(3):
                low = (1 - u) * ((a >> (8 * s)) & 255) + u * ((b >> (8 * s)) & 255)
                high = (1 - u) * ((c >> (8 * s)) & 255) + u * ((d >> (8 * s)) & 255)
                out[i, j, s] = np.uint8((1 - v) * low + v * high + 0.5)


def _pyramid(base: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    table: list[tuple[int, int, int]] = [(0, base.shape[0], base.shape[1])]
    sizes: list[int] = []
    rows, cols = base.shape
    while min(rows, cols) >= 16:
        rows, cols = rows // 2, cols // 2
        table.append((sum(sizes), rows, cols))
        sizes.append(rows * cols)
    mips = np.zeros(sum(sizes), np.uint32)
    for level in range(1, len(table)):
        start, rows, cols = table[level]
        out = mips[start : start + rows * cols]
        if level == 1:
            _halve_base(base, PALETTE, out)
        else:
            before, _, width = table[level - 1]
            _halve(mips[before:], width, out, rows, cols)
    return np.array(table, np.int64), mips
