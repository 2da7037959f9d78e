"""What is painted on a road: a RoadMap in, (material, polygon) pairs in painting order out.

Roads explain themselves: the limit shows everywhere along a street (30 reddish asphalt without edge lines, 40
plain, 50 white edge lines, 60 edge lines and a double yellow centre line) and as a number where it begins; the
line between opposing traffic is broad, lane dashes are thin; arrows say where a lane leads.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from enum import IntEnum
from typing import no_type_check

import numpy as np
from jaxtyping import Float
from numba import njit

from drivebyword.core.geometry import arc_lengths, resample
from drivebyword.world.roads import Lane, RoadMap


class Material(IntEnum):
    """What lies on the ground at one place."""

    GRASS = 0
    ASPHALT = 1
    ASPHALT_SLOW = 2
    ASPHALT_FAST = 3
    SIDEWALK = 4
    KERB = 5
    WHITE = 6
    YELLOW = 7
    RED = 8
    PAVING = 9
    ZEBRA_GAP = 10
    EARTH = 11


Shape = tuple[Material, Float[np.ndarray, "P 2"]]
KERB_WIDTH = 0.25
SEGMENTS = {"0": "abcdef", "2": "abged", "3": "abgcd", "4": "fgbc", "5": "afgcd", "6": "afgedc", "1": "bc", "7": "abc",
            "8": "abcdefg", "9": "abcdfg"}  # fmt: skip
_BARS = {
    "a": (0, 2, 1, 2), "g": (0, 1, 1, 1), "d": (0, 0, 1, 0), "f": (0, 1, 0, 2),
    "b": (1, 1, 1, 2), "e": (0, 0, 0, 1), "c": (1, 0, 1, 1),
}  # fmt: skip


def offset_line(line: Float[np.ndarray, "P 2"], offset: float) -> Float[np.ndarray, "P 2"]:
    """Shift a polyline sideways, positive left, with mitred corners."""
    return _offset_line(np.ascontiguousarray(line, np.float64), float(offset))


@njit(cache=True)
@no_type_check
def _offset_line(line, offset):  # type: ignore[no-untyped-def]
    out = np.empty_like(line)
    last = line.shape[0] - 2
    for k in range(line.shape[0]):
        mx, my = 0.0, 0.0
        for i in (min(max(k - 1, 0), last), min(k, last)):
            dx, dy = line[i + 1, 0] - line[i, 0], line[i + 1, 1] - line[i, 1]
            length = max(np.hypot(dx, dy), 1e-9)
            mx, my = mx - dy / length, my + dx / length
        square = max((mx * mx + my * my) / 2.0, 0.6)
        out[k, 0], out[k, 1] = line[k, 0] + offset * (mx / square), line[k, 1] + offset * (my / square)
    return out


def ribbon(line: Float[np.ndarray, "P 2"], left: float, right: float) -> Float[np.ndarray, "Q 2"]:
    """Return the polygon between two sideways offsets of a polyline."""
    return np.vstack([offset_line(line, left), offset_line(line, right)[::-1]])


def _cut(line: np.ndarray, start: float, end: float) -> np.ndarray:
    s = arc_lengths(line)
    inner = line[(s > start) & (s < end)]
    ends = [np.array([np.interp(at, s, line[:, 0]), np.interp(at, s, line[:, 1])]) for at in (start, end)]
    return np.vstack([ends[:1], inner, ends[1:]])


def _prolonged(line: np.ndarray, by: float) -> np.ndarray:
    first, last = line[0] - line[1], line[-1] - line[-2]
    first, last = (d / max(float(np.hypot(*d)), 1e-6) * by for d in (first, last))
    return np.vstack([line[:1] + first, line, line[-1:] + last])


def _dashes(line: np.ndarray, dash: float, gap: float) -> Iterator[np.ndarray]:
    length = float(arc_lengths(line)[-1])
    count = max(1, round((length - gap) / (dash + gap)))
    pitch = length / count
    for k in range(count):
        yield _cut(line, (k + 0.5) * pitch - dash / 2, (k + 0.5) * pitch + dash / 2)


def asphalt_of(limit: float) -> Material:
    """Choose the surface that tells a limit in m/s."""
    if limit < 32 / 3.6:
        return Material.ASPHALT_SLOW
    return Material.ASPHALT if limit < 55 / 3.6 else Material.ASPHALT_FAST


def _streets(road_map: RoadMap) -> dict[str, list[Lane]]:
    """Group the drive lanes by edge, from the kerb inwards."""
    edges: dict[str, list[Lane]] = defaultdict(list)
    for lane in road_map.lanes.values():
        if lane.kind == "drive":
            edges[lane.edge].append(lane)
    for lanes in edges.values():
        lanes.sort(key=lambda lane: lane.index)
    return edges


def _opposed(edges: dict[str, list[Lane]], kerb: float) -> dict[str, str]:
    """Pair streets whose inner borders coincide in opposite directions."""
    names = list(edges)
    if not names:
        return {}
    border = [offset_line(edges[n][-1].line, -kerb * edges[n][-1].width / 2) for n in names]
    start, end = np.array([b[0] for b in border]), np.array([b[-1] for b in border])
    gap = np.hypot(*(start[:, None] - end[None]).transpose(2, 0, 1))
    gap = np.maximum(gap, gap.T)
    best = gap.argmin(1)
    return {n: names[best[k]] for k, n in enumerate(names) if gap[k, best[k]] < 1.5}


def surfaces(road_map: RoadMap) -> Iterator[Shape]:
    """Yield sidewalks, kerbs and asphalt, in painting order."""
    lanes = list(road_map.lanes.values())
    for junction in road_map.junctions:
        if len(junction.outline) > 2:
            yield Material.ASPHALT, junction.outline
    for lane in lanes:
        if lane.kind == "sidewalk":
            # Longer than the lane: sidewalks end some metres before the corner areas they lead to.
            yield Material.SIDEWALK, ribbon(_prolonged(lane.line, 5.0), lane.width / 2, -lane.width / 2)
    for lane in lanes:
        if lane.kind == "walkarea" and len(lane.line) > 2:
            yield Material.SIDEWALK, lane.line
            yield Material.KERB, ribbon(np.vstack([lane.line, lane.line[:1]]), KERB_WIDTH / 2, -KERB_WIDTH / 2)
    for lane in lanes:
        if lane.kind == "drive" or _is_beside_cars(lane):
            yield Material.KERB, ribbon(lane.line, lane.width / 2 + KERB_WIDTH, -lane.width / 2 - KERB_WIDTH)
    for lane in lanes:
        if lane.kind in ("internal", "crossing", "reserved"):
            yield Material.ASPHALT, ribbon(lane.line, lane.width / 2, -lane.width / 2)
    for lane in lanes:
        if lane.kind == "drive":
            yield asphalt_of(lane.speed_limit), ribbon(lane.line, lane.width / 2, -lane.width / 2)


def _is_beside_cars(lane: Lane) -> bool:
    """Tell whether a lane is a street's bus or bicycle lane, and not a way of theirs through a junction."""
    return lane.kind == "reserved" and not lane.edge.startswith(":")


def paint(road_map: RoadMap) -> Iterator[Shape]:
    """Yield lines, stop lines, zebra stripes, arrows and limits, in painting order."""
    edges = _streets(road_map)
    opposed = _opposed(edges, road_map.kerb)
    for name, lanes in edges.items():
        yield from _lines(lanes, opposed.get(name), name, road_map.kerb)
    for lane in road_map.lanes.values():
        if _is_beside_cars(lane):
            yield Material.WHITE, ribbon(offset_line(lane.line, -road_map.kerb * lane.width / 2), 0.12, -0.12)
    signalised = {head.lane for head in road_map.signals}
    for name, ends in road_map.stop_lines.items():
        yield from _stop_line(road_map.lanes[name], ends, name in signalised)
    for corners in road_map.crossings:
        yield from _zebra(np.asarray(corners))
    ways: dict[str, set[str]] = defaultdict(set)
    for link in road_map.links:
        ways[link.from_lane].add(link.direction)
    for lanes in edges.values():
        for lane in lanes:
            if len(lanes) > 1:
                yield from _arrows(lane, ways[lane.id])
            yield from _roundel(lane)


def _lines(lanes: list[Lane], opposite: str | None, name: str, kerb: float) -> Iterator[Shape]:
    limit, inner = lanes[0].speed_limit * 3.6, lanes[-1]
    if limit > 45:
        half = lanes[0].width / 2
        yield Material.WHITE, ribbon(lanes[0].line, kerb * (half - 0.35), kerb * (half - 0.15))
    for lane in lanes[:-1]:
        for piece in _dashes(offset_line(lane.line, -kerb * lane.width / 2), 3.0, 6.0):
            yield Material.WHITE, ribbon(piece, 0.09, -0.09)
    border = offset_line(inner.line, -kerb * inner.width / 2)
    if opposite is None:
        yield Material.WHITE, ribbon(border, kerb * 0.1, kerb * 0.3)
    elif limit > 55:
        yield Material.YELLOW, ribbon(border, kerb * 0.08, kerb * 0.26)
    elif name < opposite and limit > 45:
        yield Material.WHITE, ribbon(border, 0.11, -0.11)
    elif name < opposite:
        for piece in _dashes(border, 4.0, 2.5):
            yield Material.WHITE, ribbon(piece, 0.11, -0.11)


def _stop_line(lane: Lane, ends: np.ndarray, solid: bool) -> Iterator[Shape]:
    """Paint a broad bar before signals, a row of teeth where the street only yields."""
    step = lane.line[-1] - lane.line[-2]
    back = -step / max(float(np.hypot(*step)), 1e-6) * 0.5
    a, b = np.asarray(ends[0], float), np.asarray(ends[1], float)
    if solid:
        yield Material.WHITE, np.stack([a, b, b + back, a + back])
        return
    count = max(3, round(float(np.hypot(*(b - a))) / 0.8))
    for k in range(count):
        p, q = a + (b - a) * (k + 0.2) / count, a + (b - a) * (k + 0.8) / count
        yield Material.WHITE, np.stack([p, q, q + back, p + back])


def _zebra(corners: np.ndarray) -> Iterator[Shape]:
    """Paint stripes 0.5 m wide, 0.5 m apart, along the traffic's direction."""
    a, b, c, d = corners
    along = (c + d - a - b) / 2
    count = max(2, int(np.hypot(*along)))
    near, far = np.stack([a, b]), np.stack([d, c])
    # Bare asphalt at both edges keeps the stop line apart from the stripes.
    near, far = (side + (side.mean(0) - side) * 0.24 for side in (near, far))
    for k in range(count):
        p, q = near + (far - near) * ((k + 0.25) / count), near + (far - near) * ((k + 0.75) / count)
        yield Material.WHITE, np.stack([p[0], p[1], q[1], q[0]])


def _placed(lane: Lane, at: float, shape: np.ndarray) -> np.ndarray:
    """Put a shape drawn in (ahead, left) metres on a lane's centre at an arc length."""
    s = arc_lengths(lane.line)
    p = np.array([np.interp(at, s, lane.line[:, k]) for k in (0, 1)])
    q = np.array([np.interp(min(at + 1.0, s[-1]), s, lane.line[:, k]) for k in (0, 1)]) - p
    ahead = q / max(float(np.hypot(*q)), 1e-6)
    return p + shape[:, :1] * ahead + shape[:, 1:] * np.array([-ahead[1], ahead[0]])


def _arrows(lane: Lane, ways: set[str]) -> Iterator[Shape]:
    length = float(arc_lengths(lane.line)[-1])
    for at in (length - 9.0, length - 28.0):
        if at < 14.0 or not ways:
            continue
        shaft = 3.2 if "straight" in ways else 2.6
        yield Material.WHITE, _placed(lane, at, np.array([[0, 0.1], [shaft, 0.1], [shaft, -0.1], [0, -0.1]]))
        if "straight" in ways:
            yield Material.WHITE, _placed(lane, at, np.array([[3.2, 0.42], [5.0, 0.0], [3.2, -0.42]]))
        for way, side in (("left", 1.0), ("right", -1.0)):
            if way in ways:
                bend = [[1.9, 0], [2.6, 0], [2.6, 0.6], [3.0, 0.6], [2.2, 1.2], [1.4, 0.6], [1.9, 0.6]]
                yield Material.WHITE, _placed(lane, at, np.array(bend) * [1.0, side])


def _roundel(lane: Lane) -> Iterator[Shape]:
    """Paint the limit where the street begins: a ring and a number, stretched along the road."""
    if float(arc_lengths(lane.line)[-1]) < 25.0:
        return
    turn = np.linspace(0, 2 * np.pi, 28)
    for material, radius in ((Material.RED, 1.35), (Material.WHITE, 1.08)):
        yield material, _placed(lane, 12.0, radius * np.stack([1.8 * np.cos(turn), np.sin(turn)], 1))
    text = str(round(lane.speed_limit * 3.6))
    for k, digit in enumerate(text):
        left = (len(text) / 2 - k) * 0.86 - 0.16
        for bar in SEGMENTS[digit]:
            x0, y0, x1, y1 = _BARS[bar]
            low, high = np.array([y0 - 1.0, -x0 * 0.54]), np.array([y1 - 1.0, -x1 * 0.54])
            box = np.array([[low[0] - 0.15, low[1] + 0.1], [high[0] + 0.15, low[1] + 0.1],
                            [high[0] + 0.15, high[1] - 0.1], [low[0] - 0.15, high[1] - 0.1]])  # fmt: skip
            yield Material.EARTH, _placed(lane, 12.0, box + [0.0, left])


def road_area(road_map: RoadMap, margin: float) -> Iterator[np.ndarray]:
    """Yield polygons that cover everything walked or driven on, grown by a margin to both sides."""
    for lane in road_map.lanes.values():
        if lane.kind == "walkarea":
            if len(lane.line) > 2:
                yield lane.line
                yield ribbon(np.vstack([lane.line, lane.line[:1]]), margin, -margin)
        else:
            line = resample(lane.line, 8.0)
            yield ribbon(line, lane.width / 2 + margin, -lane.width / 2 - margin)
    for junction in road_map.junctions:
        if len(junction.outline) > 2:
            yield junction.outline
