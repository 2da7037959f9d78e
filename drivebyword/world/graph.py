"""Questions about a town's roads: a RoadMap in, fast answers out (which lane, which ways on, is it road)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import pi
from typing import no_type_check

import numpy as np
from jaxtyping import Bool, Float
from numba import njit
from PIL import Image, ImageDraw

from drivebyword.core.geometry import arc_lengths
from drivebyword.world.roads import Junction, Lane, Link, RoadMap

CELL = 6.0
"""Side of the lane index's grid cells in metres."""
REACH = 1.5
"""How far beyond its own edge a lane still claims a point, in metres."""
RASTER = 0.25
"""Metres per cell of the drivable raster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneMatch:
    """Where a pose is on the lanes."""

    lane: str
    edge: str
    index: int
    internal: bool
    """True inside a junction."""
    s: float
    """Arc length along the lane's line."""
    offset: float
    """Metres from the centre line, positive left of the lane's direction."""
    heading: float
    """Of the lane here, map frame."""
    heading_error: float
    """Pose's yaw less the lane's heading, in [-pi, pi)."""
    wrong_way: bool
    """True where only a lane of opposite direction is under the pose."""


@njit(cache=True)
@no_type_check
def _nearest(x, y, yaw, segments, starts, items, x0, y0, cell, columns, rows):  # type: ignore[no-untyped-def]
    """Return (segment, t, signed offset) of the best lane along and against the heading; segment -1: none."""
    best = np.full((2, 4), -1.0)
    best[:, 3] = 1e9
    column, row = int((x - x0) // cell), int((y - y0) // cell)
    if column < 0 or row < 0 or column >= columns or row >= rows:
        return best
    where = row * columns + column
    for position in range(starts[where], starts[where + 1]):
        k = items[position]
        ax, ay, ux, uy, length, heading, half = segments[k]
        t = min(max((x - ax) * ux + (y - ay) * uy, 0.0), length)
        gx, gy = x - ax - t * ux, y - ay - t * uy
        gap = np.sqrt(gx * gx + gy * gy)
        if gap > half + 1.5:
            continue
        turned = abs((yaw - heading + np.pi) % (2 * np.pi) - np.pi)
        way = 0
        if turned > np.pi / 2:
            way, turned = 1, np.pi - turned
        score = gap + 2.0 * turned
        if score < best[way, 3]:
            best[way, 0], best[way, 1], best[way, 3] = k, t, score
            best[way, 2] = gap if ux * gy - uy * gx >= 0 else -gap
    return best


@njit(cache=True)
@no_type_check
def _sort_into_cells(segments, x0, y0, columns, rows):  # type: ignore[no-untyped-def]
    """List, for every grid cell, the segments within reach of it: where each cell's list starts, and the lists."""
    total = columns * rows
    offsets = np.zeros(total + 1, np.int64)
    last = np.full(total, -1)
    items = np.empty(0, np.int64)
    for filling in range(2):  # count first, then write
        last[:] = -1
        for k in range(segments.shape[0]):
            ax, ay, ux, uy, length, _, half = segments[k]
            near = half + REACH + CELL / 4
            # Walk the segment in steps of half a cell; mark the cells within reach of each step.
            steps = int(length / (CELL / 2)) + 2
            for i in range(steps):
                s = length * i / (steps - 1)
                x, y = ax + s * ux - x0, ay + s * uy - y0
                c0, c1 = max(int(np.floor((x - near) / CELL)), 0), min(int(np.floor((x + near) / CELL)), columns - 1)
                r0, r1 = max(int(np.floor((y - near) / CELL)), 0), min(int(np.floor((y + near) / CELL)), rows - 1)
                for row in range(r0, r1 + 1):
                    for column in range(c0, c1 + 1):
                        where = row * columns + column
                        if last[where] == k:
                            continue
                        last[where] = k
                        if filling:
                            items[offsets[where]] = k
                        offsets[where + (0 if filling else 1)] += 1
        if not filling:
            offsets = np.cumsum(offsets)
            items = np.empty(offsets[total], np.int64)
    # Every start has moved on to the next cell's.
    offsets[1:] = offsets[:-1].copy()
    offsets[0] = 0
    return offsets, items


@njit(cache=True)
@no_type_check
def _is_road(x, y, mask, x0, y0):  # type: ignore[no-untyped-def]
    """Tell whether a place's cell of the drivable raster is road."""
    column, row = int(np.floor((x - x0) / RASTER)), int(np.floor((y - y0) / RASTER))
    return 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1] and mask[row, column]


@njit(cache=True)
@no_type_check
def _are_road(points, mask, x0, y0):  # type: ignore[no-untyped-def]
    """Tell it of every point."""
    found = np.empty(points.shape[0], np.bool_)
    for k in range(points.shape[0]):
        found[k] = _is_road(points[k, 0], points[k, 1], mask, x0, y0)
    return found


@njit(cache=True)
@no_type_check
def _off_road(box, mask, x0, y0):  # type: ignore[no-untyped-def]
    """Count the corners of a box whose cell of the drivable raster is not road; and tell of its middle."""
    c, s = np.cos(box[2]), np.sin(box[2])
    corners, middle = 0, False
    for k in range(5):
        along, across = 0.0, 0.0
        if k < 4:
            along, across = (0.5 if k % 2 == 0 else -0.5) * box[3], (0.5 if k < 2 else -0.5) * box[4]
        off = not _is_road(box[0] + along * c - across * s, box[1] + along * s + across * c, mask, x0, y0)
        if k < 4:
            corners += off
        else:
            middle = off
    return corners, middle


class RoadGraph:
    """A RoadMap indexed for driving on it."""

    def __init__(self, road_map: RoadMap) -> None:
        self.road_map = road_map
        self._links: dict[str, list[Link]] = defaultdict(list)
        self._link_of: dict[str, Link] = {}
        for link in road_map.links:
            self._links[link.from_lane].append(link)
            for name in link.via:
                self._link_of.setdefault(name, link)
        self._edges: dict[str, list[Lane]] = defaultdict(list)
        for lane in road_map.lanes.values():
            if lane.kind == "drive":
                self._edges[lane.edge].append(lane)
        for lanes in self._edges.values():
            lanes.sort(key=lambda lane: lane.index)
        self._length = {name: float(arc_lengths(lane.line)[-1]) for name, lane in road_map.lanes.items()}
        self._branches = {edge: self._find_branches(edge) for edge in self._edges}
        self._junctions = {junction.id: junction for junction in road_map.junctions}
        self._build_index()
        self._build_mask()

    # ------------------------------------------------------------------ topology

    @property
    def edges(self) -> tuple[str, ...]:
        """Return every edge cars may use."""
        return tuple(self._edges)

    @property
    def to_left(self) -> int:
        """Return what one lane to the left adds to a lane's index: they are counted from the kerb."""
        return -1 if self.road_map.left_hand else 1

    def lanes_of(self, edge: str) -> list[Lane]:
        """Return an edge's drive lanes, from the kerb inwards."""
        return self._edges.get(edge, [])

    def links_from(self, lane: str) -> list[Link]:
        """Return the links that leave a drive lane."""
        return self._links.get(lane, [])

    def leads(self, lane: str, edge: str) -> bool:
        """Tell whether a link leads from a lane to an edge."""
        return any(self.road_map.lanes[k.to_lane].edge == edge for k in self.links_from(lane))

    def beyond(self, lane: str) -> str | None:
        """Return the next edge a lane leads to, straight on where it can; None at a dead end."""
        links = sorted(self.links_from(lane), key=lambda k: (k.direction != "straight", k.to_lane))
        return self.road_map.lanes[links[0].to_lane].edge if links else None

    def way_out(self, route: Sequence[str]) -> str | None:
        """Return where a route leaves a roundabout by itself: at the second exit, or the next there is; else None."""
        ring = next((ring for ring in self.road_map.roundabouts if ring.issuperset(route[-2:])), None)
        if ring is None or len(route) < 2:
            return None
        return next((end for end in self.branches(route[-1]).values() if end not in ring), None)

    def ends(self, route: Sequence[str], ahead: float) -> bool:
        """Tell whether a route's road ends within 20 m, `ahead` being the metres left on its first edge."""
        return len(route) == 1 and ahead < 20.0 and not self.branches(route[0])

    def until_choice(self, edges: list[str]) -> list[str]:
        """Extend edges in a row to the next one whose end offers a choice."""
        row = list(edges)
        while len(self.branches(row[-1])) == 1 and len(row) < 8:
            row.append(next(iter(self.branches(row[-1]).values())))
        return row

    def links_between(self, edge: str, next_edge: str) -> list[Link]:
        """Return the links from any lane of `edge` to any lane of `next_edge`."""
        lanes = self.road_map.lanes
        return [
            k for lane in self.lanes_of(edge) for k in self.links_from(lane.id) if lanes[k.to_lane].edge == next_edge
        ]

    def ways_on(self, edge: str) -> set[str]:
        """Return every edge some lane of an edge leads to."""
        lanes = self.road_map.lanes
        return {lanes[k.to_lane].edge for lane in self.lanes_of(edge) for k in self.links_from(lane.id)}

    def link_through(self, internal_lane: str) -> Link | None:
        """Return the link an internal lane is part of."""
        return self._link_of.get(internal_lane)

    def branches(self, edge: str) -> dict[str, str]:
        """Return the ways on from an edge: direction (left, straight, right, turn) to next edge."""
        return self._branches.get(edge, {})

    def direction(self, edge: str, next_edge: str) -> str | None:
        """Name the direction of the way from one edge to the next, or None where there is none."""
        links = self.links_between(edge, next_edge)
        return links[0].direction if links else None

    def next_junction(self, edge: str) -> Junction | None:
        """Return the junction an edge leads into."""
        for lane in self.lanes_of(edge):
            for link in self.links_from(lane.id):
                if link.via:
                    return self._junctions.get(link.via[0][1:].rsplit("_", 2)[0])
        return None

    def length(self, lane: str) -> float:
        """Return a lane's length in metres."""
        return self._length[lane]

    def remaining(self, lane: str, s: float) -> float:
        """Return the metres from arc length `s` to the lane's end."""
        return max(0.0, self._length[lane] - s)

    def _find_branches(self, edge: str) -> dict[str, str]:
        """Name ways on; where two exits share a direction, the one nearest its ideal angle has the name."""
        ideal = {"straight": 0.0, "left": pi / 2, "right": -pi / 2, "turn": pi}
        best: dict[str, tuple[float, str]] = {}
        for lane in self._edges[edge]:
            for link in self.links_from(lane.id):
                ahead, leave = np.diff(lane.line[-2:], axis=0)[0], np.diff(self._exit(link), axis=0)[0]
                turn = np.arctan2(ahead[0] * leave[1] - ahead[1] * leave[0], ahead @ leave)
                off = abs(float(turn) - ideal[link.direction])
                entry = (off, self.road_map.lanes[link.to_lane].edge)
                best[link.direction] = min(best.get(link.direction, entry), entry)
        return {direction: target for direction, (_, target) in best.items()}

    def _exit(self, link: Link) -> Float[np.ndarray, "2 2"]:
        return self.road_map.lanes[link.to_lane].line[:2]

    # ------------------------------------------------------------------ geometry

    def lane_at(self, x: float, y: float, yaw: float) -> LaneMatch | None:
        """Return the lane a pose is on: the best of its own direction, else an opposite one, else None."""
        along, against = _nearest(x, y, yaw, *self._index)
        if along[0] < 0 and against[0] < 0:
            return None
        best, wrong = along, False
        if against[0] >= 0:
            outside = along[0] < 0 or abs(along[2]) > self._half[int(along[0])] + 0.2
            if (outside and abs(against[2]) < self._half[int(against[0])]) or along[0] < 0:
                best, wrong = against, not self._internal[int(against[0])]
        k = int(best[0])
        lane = self._lanes[k]
        heading = float(self._index[0][k, 5])
        return LaneMatch(
            lane=lane.id,
            edge=lane.edge,
            index=lane.index,
            internal=lane.kind == "internal",
            s=float(self._starts[k] + best[1]),
            offset=float(best[2]),
            heading=heading,
            heading_error=float((yaw - heading + pi) % (2 * pi) - pi),
            wrong_way=wrong,
        )

    def is_drivable(self, points: Float[np.ndarray, "P 2"]) -> Bool[np.ndarray, " P"]:
        """Tell which points lie on lanes or junctions cars may use."""
        return _are_road(np.asarray(points, np.float64), self.drivable_mask, *self.mask_origin.tolist())

    def off_road(self, box: Float[np.ndarray, " 5"]) -> tuple[int, bool]:
        """Tell how many corners of a box (centre x, y, yaw, length, width) are off the road, and if its middle is."""
        return _off_road(box, self.drivable_mask, *self.mask_origin.tolist())

    def _build_index(self) -> None:
        """Lay every drive and internal lane's segments into grid cells."""
        rows, self._lanes, starts, internal = [], [], [], []
        for lane in self.road_map.lanes.values():
            if lane.kind not in ("drive", "internal"):
                continue
            s = 0.0
            for a, b in zip(lane.line[:-1], lane.line[1:]):
                dx, dy = b - a
                length = float(np.hypot(dx, dy))
                if length < 1e-6:
                    continue
                heading = float(np.arctan2(dy, dx))
                rows.append((a[0], a[1], dx / length, dy / length, length, heading, lane.width / 2))
                self._lanes.append(lane)
                starts.append(s)
                internal.append(lane.kind == "internal")
                s += length
        segments = np.array(rows, float).reshape(-1, 7)
        self._starts, self._internal, self._half = np.array(starts), np.array(internal), segments[:, 6]
        low, high = self.road_map.bounds[:2] - 8.0, self.road_map.bounds[2:] + 8.0
        columns, count = (int(n) for n in np.ceil((high - low) / CELL))
        offsets, items = _sort_into_cells(segments, float(low[0]), float(low[1]), columns, count)
        self._index = (segments, offsets, items, float(low[0]), float(low[1]), CELL, columns, count)

    def _build_mask(self) -> None:
        """Paint the drivable raster: junctions less their pavements, then crossings, links and lanes."""
        self.mask_origin = np.floor(self.road_map.bounds[:2]) - 4.0
        size = np.ceil((self.road_map.bounds[2:] + 4.0 - self.mask_origin) / RASTER).astype(int)
        image = Image.new("1", (int(size[0]), int(size[1])), 0)
        draw = ImageDraw.Draw(image)

        def fill(outline: Float[np.ndarray, "P 2"], value: int) -> None:
            if len(outline) >= 3:
                # A pixel is named by its corner and painted by its centre.
                places = (outline - self.mask_origin) / RASTER - 0.5
                draw.polygon([tuple(p) for p in places.tolist()], fill=value)

        lanes = self.road_map.lanes.values()
        for junction in self.road_map.junctions:
            fill(junction.outline, 1)
        for lane in lanes:
            if lane.kind == "walkarea":
                fill(lane.line, 0)
        for corners in self.road_map.crossings:
            fill(corners, 1)
        for lane in lanes:
            if lane.kind in ("drive", "internal"):
                fill(ribbon(_longer(lane.line, 0.3), lane.width), 1)
        self.drivable_mask: Bool[np.ndarray, "H W"] = np.asarray(image, bool)


def _longer(line: Float[np.ndarray, "P 2"], more: float) -> Float[np.ndarray, "P 2"]:
    """Stretch a line at both ends, so that what follows on paints over the seam."""
    first, last = line[0] - line[1], line[-1] - line[-2]
    grown = line.copy()
    grown[0] += first / max(np.hypot(*first), 1e-9) * more
    grown[-1] += last / max(np.hypot(*last), 1e-9) * more
    return grown


def ribbon(line: Float[np.ndarray, "P 2"], width: float) -> Float[np.ndarray, "Q 2"]:
    """Return the outline of a line drawn `width` wide: its left side out, its right side back."""
    step = np.diff(line, axis=0)
    step /= np.maximum(np.hypot(step[:, 0], step[:, 1]), 1e-9)[:, None]
    along = np.concatenate([step[:1], step[:-1] + step[1:], step[-1:]])
    along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)[:, None]
    left = np.stack([-along[:, 1], along[:, 0]], axis=1) * width / 2
    return np.concatenate([line + left, (line - left)[::-1]])
