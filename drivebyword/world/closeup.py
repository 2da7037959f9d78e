"""A finer cut of the ground around a place, for pictures people look at: repainted when the place has moved on."""

from __future__ import annotations

from typing import no_type_check

import numba as nb
import numpy as np
from jaxtyping import Float, UInt32
from PIL import Image, ImageDraw

from drivebyword.world.ground import PALETTE, SHADOW_BIT, Ground, texture_tiles
from drivebyword.world.markings import Material, Shape, paint, surfaces
from drivebyword.world.roads import RoadMap
from drivebyword.world.scenery import Scenery

ACROSS = 60.0
FINER = 4
"""Painted this much finer than the ground, then halved once: edges are anti-aliased."""
STALE = 8.0
"""Repaint when the middle is this many metres off."""


class CloseUp:
    """Paints squares of ground on demand."""

    def __init__(self, road_map: RoadMap, ground: Ground, scenery: Scenery) -> None:
        self.ground = ground
        paved: list[Shape] = [(Material.PAVING, polygon) for polygon in scenery.footprints(1.2)]
        self.shapes = paved + list(surfaces(road_map)) + list(paint(road_map))
        self.shadows = list(scenery.shadows())
        self.boxes = _bounds([polygon for _, polygon in self.shapes])
        self.shadow_boxes = _bounds(self.shadows)
        self.middle = np.array([np.inf, np.inf])
        self.words = np.zeros((1, 1), np.uint32)
        self.at = np.zeros(3)

    def around(self, x: float, y: float) -> tuple[UInt32[np.ndarray, "H W"], Float[np.ndarray, " 3"]]:
        """Return packed colours about a place, and x min, y min, pixel of that raster."""
        if not np.hypot(*(self.middle - (x, y))) < STALE:
            self.middle = np.array([x, y])
            self._paint(x, y)
        return self.words, self.at

    def _paint(self, x: float, y: float) -> None:
        g = self.ground
        # Whole ground pixels, so that the texture continues seamlessly.
        col, row = int((x - ACROSS / 2 - g.x_min) / g.pixel), int((y - ACROSS / 2 - g.y_min) / g.pixel)
        origin = np.array([g.x_min + col * g.pixel, g.y_min + row * g.pixel])
        pixel, size = g.pixel / FINER, int(ACROSS / g.pixel) * FINER
        far = origin + ACROSS
        image, dark = Image.new("L", (size, size), int(Material.GRASS)), Image.new("L", (size, size), 0)
        draw, shade = ImageDraw.Draw(image), ImageDraw.Draw(dark)
        for k in _touching(self.boxes, origin, far):
            material, polygon = self.shapes[k]
            draw.polygon(((polygon - origin) / pixel).ravel().tolist(), fill=int(material))
        for k in _touching(self.shadow_boxes, origin, far):
            shade.polygon(((self.shadows[k] - origin) / pixel).ravel().tolist(), fill=SHADOW_BIT)
        base = np.array(image) | np.array(dark)
        self.words = np.empty((size // 2, size // 2), np.uint32)
        _halve_textured(base, *texture_tiles(), row, col, PALETTE, self.words)
        self.at = np.array([origin[0], origin[1], 2 * pixel])


def _bounds(polygons: list[np.ndarray]) -> np.ndarray:
    rows = [np.concatenate([p.min(0), p.max(0)]) for p in polygons]
    return np.array(rows, float).reshape(-1, 4)


def _touching(boxes: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[int]:
    hit = (boxes[:, 2] > low[0]) & (boxes[:, 3] > low[1]) & (boxes[:, 0] < high[0]) & (boxes[:, 1] < high[1])
    return np.flatnonzero(hit).tolist()


@nb.njit(cache=True, nogil=True)
@no_type_check
def _halve_textured(base, grain, grass, row, col, palette, out):  # type: ignore[no-untyped-def]
    """Add the ground's texture to FINER times finer pixels and average two by two."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            gi, gj = row + i // 2, col + j // 2
            total = np.zeros(3, np.int64)
            for k in range(4):
                word = base[2 * i + k // 2, 2 * j + k % 2]
                step = grass[gi & 511, gj & 511] if word & 15 == 0 else grain[(gi >> 1) & 511, (gj >> 1) & 511]
                colour = palette[word | step << 4]
                total[0] += colour & 255
                total[1] += (colour >> 8) & 255
                total[2] += (colour >> 16) & 255
            out[i, j] = np.uint32((total[0] >> 2) | (total[1] >> 2) << 8 | (total[2] >> 2) << 16)
