"""The ground a town's furniture is put on: a RoadMap in, what is free and what is taken, and the rows placed so far."""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import njit
from PIL import Image, ImageDraw

from drivebyword.world.markings import ribbon, road_area
from drivebyword.world.roads import RoadMap


@njit(cache=True)
@no_type_check
def _is_free(taken, x0, y0, x, y, yaw, length, width):  # type: ignore[no-untyped-def]
    """Tell whether no cell that points a metre apart in a rectangle meet is taken, and none is off the raster."""
    c, s = np.cos(yaw), np.sin(yaw)
    along, across = max(2, int(length) + 2) - 1, max(2, int(width) + 2) - 1
    free = True
    for i in range(along + 1):
        u = (i * (1.0 / along) - 0.5 if i < along else 0.5) * length
        for j in range(across + 1):
            v = (j * (1.0 / across) - 0.5 if j < across else 0.5) * width
            column, row = int(x + u * c - v * s - x0), int(y + u * s + v * c - y0)
            if column < 0 or row < 0 or column >= taken.shape[1] or row >= taken.shape[0]:
                return False
            free = free and not taken[row, column]
    return free


@njit(cache=True)
@no_type_check
def _take(taken, x0, y0, x, y, yaw, length, width):  # type: ignore[no-untyped-def]
    """Mark the cells that points half a metre apart in a rectangle meet."""
    c, s = np.cos(yaw), np.sin(yaw)
    along, across = int(length * 2) + 1, int(width * 2) + 1
    for i in range(along + 1):
        u = (i * (1.0 / along) - 0.5 if i < along else 0.5) * length
        for j in range(across + 1):
            v = (j * (1.0 / across) - 0.5 if j < across else 0.5) * width
            column, row = int(x + u * c - v * s - x0), int(y + u * s + v * c - y0)
            taken[min(max(row, 0), taken.shape[0] - 1), min(max(column, 0), taken.shape[1] - 1)] = 2


@njit(cache=True)
@no_type_check
def _corner_gap(corners, radius, x, y):  # type: ignore[no-untyped-def]
    """Return the distance from a place to the nearest circle."""
    gap = np.inf
    for k in range(corners.shape[0]):
        gap = min(gap, np.hypot(corners[k, 0] - x, corners[k, 1] - y) - radius[k])
    return gap


class Site:
    """A raster of taken ground, and the rows placed so far."""

    def __init__(self, road_map: RoadMap, rng: np.random.Generator) -> None:
        self.rng = rng
        self.origin = np.asarray(road_map.bounds[:2], float) - 60.0
        size = np.asarray(road_map.bounds[2:], float) + 60.0 - self.origin
        image = Image.new("L", (int(size[0]), int(size[1])), 0)
        draw = ImageDraw.Draw(image)
        for polygon in road_area(road_map, 0.5):
            draw.polygon((polygon - self.origin).ravel().tolist(), fill=1, outline=1)
        self.taken = np.array(image)
        driven = Image.new("L", image.size, 0)
        draw = ImageDraw.Draw(driven)
        for lane in road_map.lanes.values():
            if lane.kind in ("drive", "internal"):
                band = ribbon(lane.line, lane.width / 2 + 0.3, -lane.width / 2 - 0.3)
                draw.polygon((band - self.origin).ravel().tolist(), fill=1, outline=1)
        self.driven = np.array(driven)
        self.corners = np.array([j.center for j in road_map.junctions]).reshape(-1, 2)
        self.corner_radius = np.array([np.hypot(*(j.outline - j.center).T).max() for j in road_map.junctions])
        self.floats: list[list[float]] = []
        self.codes: list[list[int]] = []
        self.solids: list[tuple[float, ...]] = []
        self.paved: list[tuple[float, ...]] = []

    def add(self, row: tuple[list[float], list[int]]) -> None:
        """Put up a solid."""
        self.floats.append(row[0])
        self.codes.append(row[1])

    def free(self, x: float, y: float, yaw: float, length: float, width: float) -> bool:
        """Tell whether an oriented rectangle lies on free ground."""
        return _is_free(self.taken, *self.origin.tolist(), x, y, yaw, length, width)

    def take(self, x: float, y: float, yaw: float, length: float, width: float) -> None:
        """Mark an oriented rectangle as used."""
        _take(self.taken, *self.origin.tolist(), x, y, yaw, length, width)

    def corner_gap(self, x: float, y: float) -> float:
        """Return the distance to the nearest junction's edge."""
        return _corner_gap(self.corners, self.corner_radius, x, y)
