"""What stands beside the roads: a RoadMap and a seed in, buildings, trees, lamps and signal posts out.

Everything keeps off the ground people walk or drive on, and buildings keep off junction corners, so that a driver
can see who comes from the side.
"""

from __future__ import annotations

import functools
import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Float32, Int32

from drivebyword.core.geometry import arc_lengths, box_corners
from drivebyword.core.places import cache_folder
from drivebyword.world.kept import Columns, content_of, kept, named
from drivebyword.world.markings import offset_line
from drivebyword.world.roads import Lane, RoadMap
from drivebyword.world.site import Site
from drivebyword.world.solids import (
    BOX,
    CROWN,
    CY,
    ELLIPSOID,
    FACADE,
    FLAGS,
    FLAT,
    MIRRORED,
    PLATE,
    ROOF,
    SHADER,
    SHAPE,
    SIGN,
    SIN,
    STREET_LAMP,
    SUN,
    TAPERED,
    SignKind,
    other_sign,
    sign_code,
    solid,
)

WALLS = ((206, 188, 158), (188, 120, 92), (222, 214, 200), (168, 172, 178), (200, 168, 120), (150, 96, 78),
         (214, 196, 176), (176, 186, 170), (232, 226, 212), (138, 142, 150))  # fmt: skip
ROOFS = ((150, 72, 54), (120, 62, 50), (92, 88, 90), (168, 92, 62), (86, 78, 76))
LEAVES = ((74, 118, 52), (88, 132, 58), (62, 104, 54), (104, 138, 62), (116, 130, 56))
HEAD_SIZE = (0.45, 0.8, 2.0)
"""Depth, width and height of a signal head in metres: oversized, so that a small camera can read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenery:
    """Static solids, and what they mean for the ground and for collisions."""

    floats: Float32[np.ndarray, "N 18"]
    codes: Int32[np.ndarray, "N 4"]
    solid_rows: Float[np.ndarray, "K 5"]
    """Centre x, y, yaw, length, width of everything a car can hit."""
    paved: Float[np.ndarray, "Q 5"]
    """Centre x, y, yaw, length, width of buildings."""
    image: bool = False
    """Part of a mirror image, in which the sun and what sensors sample by are mirrored too (mirror.py)."""

    @property
    def sun_side(self) -> float:
        """Return 1, or -1 in a mirror image: the sun then stands on the other side of the x axis."""
        return -1.0 if self.image else 1.0

    def mirrored(self, image: bool = False) -> Scenery:
        """Return the mirror image about the x axis: what was drawn, not drawn anew.

        Of a town of its own signs can be read, and say what holds there; in an `image` they are mirrored too.
        """
        floats, codes = self.floats.copy(), self.codes.copy()
        floats[:, [CY, SIN]] *= -1.0
        codes[np.isin(codes[:, SHADER], (FACADE, CROWN)), FLAGS] ^= MIRRORED
        for row in np.flatnonzero(codes[:, SHADER] == SIGN):
            code = int(codes[row, FLAGS])
            codes[row, FLAGS] = code ^ MIRRORED if image else sign_code(other_sign(SignKind(code & 15)), code >> 4)
        flip = np.array([1.0, -1.0, -1.0, 1.0, 1.0])
        return replace(
            self, floats=floats, codes=codes, solid_rows=self.solid_rows * flip, paved=self.paved * flip,
            image=self.image != image,
        )  # fmt: skip

    def solid_boxes(self) -> Float[np.ndarray, "K 5"]:
        """Return centre x, y, yaw, length, width of everything a car can hit."""
        return self.solid_rows

    def digest(self) -> str:
        """Return a short name that changes with the content."""
        return hashlib.sha256(self.floats.tobytes() + self.codes.tobytes()).hexdigest()[:16]

    def footprints(self, margin: float) -> Iterator[Float[np.ndarray, "4 2"]]:
        """Yield the ground under buildings, grown by a margin."""
        for x, y, yaw, length, width in self.paved:
            yield box_corners(x, y, yaw, length + 2 * margin, width + 2 * margin)

    def shadows(self) -> Iterator[Float[np.ndarray, "P 2"]]:
        """Yield polygons the sun does not reach; tall things are cut to 9 m so that streets stay readable."""
        fall = -np.array([SUN[0], SUN[1] * self.sun_side]) / SUN[2]
        turn = np.linspace(0, 2 * np.pi, 13)[:-1]
        for row, code in zip(self.floats.astype(float), self.codes):
            x, y, cos, sin, half_l, half_w, foot, top = row[:8]
            if top - foot < 0.6 or (code[SHADER] == FLAT and half_l > 1.0):
                continue
            if code[SHAPE] == ELLIPSOID or code[SHADER] == CROWN:
                ring = np.stack([np.cos(turn) * half_l, np.sin(turn) * half_l], 1)
                yield np.array([x, y]) + ring + fall * (foot + top) / 2
            else:
                low = box_corners(x, y, float(np.arctan2(sin, cos)), 2 * half_l, 2 * half_w)
                yield _hull(np.vstack([low + fall * min(foot, 9.0), low + fall * min(top, 9.0)]))


def _hull(points: np.ndarray) -> np.ndarray:
    """Return the convex hull (Andrew's monotone chain)."""
    order = sorted(map(tuple, points.tolist()))
    chains = []
    for run in (order, order[::-1]):
        chain: list[tuple[float, float]] = []
        for p in run:
            while len(chain) > 1:
                (ax, ay), (bx, by) = chain[-2:]
                if (bx - ax) * (p[1] - ay) - (by - ay) * (p[0] - ax) > 0:
                    break
                chain.pop()
            chain.append(p)
        chains += chain[:-1]
    return np.array(chains)


def build_scenery(road_map: RoadMap, seed: int = 0) -> Scenery:
    """Furnish a town; the same map and seed give the same scenery.

    Left-hand towns are furnished as their mirror image would be, and the two mirror each other to the last tree.
    """
    if road_map.left_hand:
        return build_scenery(road_map.mirrored(), seed).mirrored()
    # Sources, roads and signs are all it is made from (a map's id is its network's content).
    file = named(cache_folder("scenery"), _sources(), road_map.id, road_map.signs, seed)
    rows = kept(file, lambda: _furnish(road_map, seed))
    return Scenery(floats=rows["floats"], codes=rows["codes"], solid_rows=rows["solid_rows"], paved=rows["paved"])


@functools.cache
def _sources() -> str:
    return content_of("scenery", "site", "solids", "markings", "../core/geometry")


def _furnish(road_map: RoadMap, seed: int) -> Columns:
    site = Site(road_map, np.random.default_rng([seed, int(road_map.id, 16) % 2**32]))
    kerbs = _kerbs(road_map)
    _sign_posts(site, road_map)
    for line in kerbs:
        _row_of_buildings(site, line)
    for line in kerbs:
        _row_of_trees(site, line)
        _row_of_lamps(site, line)
    _scattered_trees(site)
    _signal_posts(site, road_map)
    return {
        "floats": np.array(site.floats, np.float32).reshape(-1, 18),
        "codes": np.array(site.codes, np.int32).reshape(-1, 4),
        "solid_rows": np.array(site.solids, float).reshape(-1, 5),
        "paved": np.array(site.paved, float).reshape(-1, 5),
    }


def _kerbs(road_map: RoadMap) -> list[np.ndarray]:
    """Return the outer border of every street, sidewalk included, in driving direction."""
    outer: dict[str, Lane] = {}
    for lane in road_map.lanes.values():
        if lane.kind in ("drive", "sidewalk") and (lane.edge not in outer or lane.index < outer[lane.edge].index):
            outer[lane.edge] = lane
    return [offset_line(lane.line, -lane.width / 2) for lane in outer.values()]


def _places(line: np.ndarray, start: float, end: float, step: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Walk along a line: points and unit vectors to its right."""
    s = arc_lengths(line)
    for at in np.arange(start, end, step):
        p = np.array([np.interp(at, s, line[:, k]) for k in (0, 1)])
        q = np.array([np.interp(at + 1.0, s, line[:, k]) for k in (0, 1)]) - p
        if q.any():
            q /= np.hypot(*q)
            yield p, np.array([q[1], -q[0]])


def _row_of_buildings(site: Site, line: np.ndarray) -> None:
    rng, length = site.rng, float(arc_lengths(line)[-1])
    suburb = rng.random() < 0.5
    at = 9.0 + rng.uniform(0, 5)
    while at < length - 9.0:
        front = float(rng.uniform(9, 13) if suburb else rng.uniform(12, 24))
        depth = float(rng.uniform(8, 11) if suburb else rng.uniform(10, 15))
        setback = float(rng.uniform(5.5, 8.0) if suburb else rng.uniform(3.2, 5.5))
        for p, right in _places(line, at + front / 2, at + front / 2 + 0.1, 1.0):
            x, y = p + right * (setback + depth / 2)
            yaw = float(np.arctan2(right[1], right[0])) + np.pi / 2
            if site.corner_gap(x, y) > 6.0 + 0.25 * front and site.free(x, y, yaw, front + 1.0, depth + 1.0):
                _building(site, float(x), float(y), yaw, front, depth, suburb)
        at += front + float(rng.uniform(3, 7) if suburb else rng.choice([0.6, 2.0, 6.0]))


def _building(site: Site, x: float, y: float, yaw: float, front: float, depth: float, suburb: bool) -> None:
    rng = site.rng
    wall = np.array(WALLS[rng.integers(len(WALLS))]) + rng.uniform(-10, 10, 3)
    height = float(3.0 * rng.integers(1, 3) + 0.5) if suburb else float(3.1 * rng.integers(2, 7) + 0.9)
    colour = (float(wall[0]), float(wall[1]), float(wall[2]))
    site.add(solid(x, y, yaw, (front, depth), (0.0, height), colour, shader=FACADE, seed=float(rng.random())))
    if suburb or rng.random() < 0.25:
        ridge = max(0.4, front - depth)
        top = (ridge, 0.4, 0.0)
        roof = ROOFS[rng.integers(len(ROOFS))]
        size, heights = (front + 0.9, depth + 0.9), (height, height + 0.28 * depth)
        site.add(solid(x, y, yaw, size, heights, roof, shape=TAPERED, shader=ROOF, top=top, seed=float(rng.random())))
    site.take(x, y, yaw, front + 2.0, depth + 2.0)
    site.solids.append((x, y, yaw, front, depth))
    site.paved.append((x, y, yaw, front, depth))


def _tree(site: Site, x: float, y: float, street: bool) -> None:
    rng = site.rng
    size = float(rng.uniform(0.8, 1.1) if street else rng.uniform(0.9, 1.5))
    leaf = np.array(LEAVES[rng.integers(len(LEAVES))]) + rng.uniform(-8, 8, 3)
    colour = (float(leaf[0]), float(leaf[1]), float(leaf[2]))
    clear = 2.6 * size if street else 1.8 * size
    site.add(solid(x, y, 0.0, (0.32, 0.32), (0.0, clear + 0.8), (92, 70, 52)))
    seeds = rng.random(3).tolist()
    if not street and rng.random() < 0.3:
        size_low, heights = (3.4 * size, 3.4 * size), (1.0, 7.5 * size)
        dark = (50.0, 86.0, 52.0)
        site.add(solid(x, y, float(rng.uniform(0, 1.5)), size_low, heights, dark, shape=TAPERED, shader=CROWN,
                       top=(0.1, 0.1, 0.0), seed=seeds[0]))  # fmt: skip
    else:
        for k, (share, lift) in enumerate(((1.0, 0.0), (0.72, 1.35))):
            shift = rng.uniform(-0.4, 0.4, 2) * k * size
            wide, low = 3.7 * size * share, clear + lift * size
            site.add(solid(x + shift[0], y + shift[1], 0.0, (wide, wide), (low, low + 3.0 * size * share), colour,
                           shape=ELLIPSOID, shader=CROWN, seed=seeds[k], reflectivity=0.45))  # fmt: skip
    site.solids.append((x, y, 0.0, 0.35, 0.35))
    site.take(x, y, 0.0, 2.5, 2.5)


def _row_of_trees(site: Site, line: np.ndarray) -> None:
    length = float(arc_lengths(line)[-1])
    if site.rng.random() < 0.15:
        return
    for p, right in _places(line, 16.0, length - 16.0, float(site.rng.uniform(9, 16))):
        x, y = p + right * 1.9
        if site.corner_gap(x, y) > 6.0 and site.free(x, y, 0.0, 1.2, 1.2):
            _tree(site, float(x), float(y), True)


def _row_of_lamps(site: Site, line: np.ndarray) -> None:
    length = float(arc_lengths(line)[-1])
    for p, right in _places(line, 12.0, length - 8.0, 34.0):
        x, y = (float(v) for v in p + right * 0.9)
        if not site.free(x, y, 0.0, 0.4, 0.4):
            continue
        yaw = float(np.arctan2(-right[1], -right[0]))
        ahead = p - right * 0.9
        site.add(solid(x, y, yaw, (0.16, 0.16), (0.0, 6.2), (96, 100, 104)))
        middle = (p + right * 0.9 + ahead) / 2
        site.add(solid(float(middle[0]), float(middle[1]), yaw, (1.8, 0.1), (6.1, 6.2), (96, 100, 104)))
        lamp = solid(
            float(ahead[0]), float(ahead[1]), yaw, (0.8, 0.3), (5.95, 6.15), (228, 226, 214), shader=STREET_LAMP
        )
        site.add(lamp)
        site.solids.append((x, y, yaw, 0.2, 0.2))
        site.take(x, y, 0.0, 1.0, 1.0)


def _scattered_trees(site: Site) -> None:
    rng = site.rng
    size = np.array(site.taken.shape[::-1])
    for _ in range(int(size.prod() / 450)):
        x, y = site.origin + rng.uniform(4, size - 4)
        if site.corner_gap(x, y) > 8.0 and site.free(x, y, 0.0, 5.0, 5.0):
            _tree(site, float(x), float(y), False)


def _sign_posts(site: Site, road_map: RoadMap) -> None:
    """Put up every sign: a post, and before it a plate as high as it is wide that throws light back."""
    width, top = PLATE
    for sign in road_map.signs:
        x, y = sign.x - 0.07 * float(np.cos(sign.yaw)), sign.y - 0.07 * float(np.sin(sign.yaw))
        site.add(solid(x, y, sign.yaw, (0.08, 0.08), (0.0, top - 0.1), (120, 124, 128)))
        row, code = solid(sign.x, sign.y, sign.yaw, (0.04, width), (top - width, top), (138, 141, 146), shader=SIGN,
                          reflectivity=1.0)  # fmt: skip
        code[FLAGS] = sign_code(sign.kind, sign.value)
        site.add((row, code))
        site.solids.append((x, y, sign.yaw, 0.1, 0.1))
        site.take(x, y, 0.0, 2.0, 2.0)


def _signal_posts(site: Site, road_map: RoadMap) -> None:
    """Add head boxes, and posts: near heads on their own, far heads of one street on an arm from the right kerb."""
    arms: dict[str, list[np.ndarray]] = defaultdict(list)
    grey = (70, 72, 76)
    for head in road_map.signals:
        depth, width, height = HEAD_SIZE
        place = (head.z - height / 2, head.z + height / 2)
        site.add(solid(head.x, head.y, head.yaw, (depth, width), place, (26, 28, 30), shape=BOX, reflectivity=0.2))
        if head.z > 4.0:
            arms[road_map.lanes[head.lane].edge].append(np.array([head.x, head.y, head.yaw, head.z]))
        else:
            site.add(solid(head.x, head.y, head.yaw, (0.16, 0.16), (0.0, head.z), grey))
            site.solids.append((head.x, head.y, head.yaw, 0.2, 0.2))
    for heads in arms.values():
        yaw, z = float(heads[0][2]), float(heads[0][3])
        right = np.array([-np.sin(yaw), np.cos(yaw)])
        places = np.array([h[:2] for h in heads])
        first, last = places[(places @ right).argmin()], places[(places @ right).argmax()]
        post = last
        for reach in np.arange(0.5, 16.0, 0.5):
            post = last + right * reach
            col, row = (post - site.origin).astype(int)
            if not site.driven[row, col]:
                post = post + right * 0.4
                break
        behind = -np.array([np.cos(yaw), np.sin(yaw)]) * 0.35
        middle, span = (first + post) / 2 + behind, float(np.hypot(*(post - first)))
        site.add(solid(float(middle[0]), float(middle[1]), yaw + np.pi / 2, (span, 0.14), (z + 0.2, z + 0.34), grey))
        post = post + behind
        site.add(solid(float(post[0]), float(post[1]), yaw, (0.2, 0.2), (0.0, z + 0.4), grey))
        site.solids.append((float(post[0]), float(post[1]), yaw, 0.25, 0.25))
