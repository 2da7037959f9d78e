"""Where traffic signs stand: a town's roads in, the signs that say its rules out.

An approach without right of way gets a yield sign, one that must stop a stop sign; a limit shows where it changes
after a junction; who comes from a junction towards the end of a one-way street sees no entry, and an approach from
which a street to the side may not be entered is told so. Signals speak for themselves. Plane geometry only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from drivebyword.core.geometry import arc_lengths
from drivebyword.world.roads import Lane, Link, RoadMap, Sign, SignKind

BESIDE = 0.75
"""Metres from the carriageway's edge to a sign's middle: a quarter metre is free beside its plate."""
BEFORE = 1.5
"""Metres from a junction to the sign that rules it."""
AFTER = 8.0
"""Metres from where a street begins to its limit."""
BARRED = (14.0, 22.0)
"""Metres from a junction to the signs that say where nobody may turn: to the left, to the right."""
SHORTEST = 24.0
"""Metres of street that signs other than those of right of way need."""
STEP_BACK = 3.0
"""Metres a sign moves back where another road is in its place."""


def plan_signs(road_map: RoadMap) -> tuple[Sign, ...]:
    """Return every sign of a town, in the order of its streets."""
    plan = _Plan(road_map)
    return tuple(sign for edge in sorted(plan.edges) for sign in plan.signs_of(edge))


class _Plan:
    """A town's streets, as signs see them."""

    def __init__(self, road_map: RoadMap) -> None:
        self.road_map = road_map
        self.edges: dict[str, list[Lane]] = defaultdict(list)
        self.outer: dict[str, Lane] = {}
        """The lane at each street's kerb, reserved ones included."""
        for lane in road_map.lanes.values():
            if lane.kind == "drive":
                self.edges[lane.edge].append(lane)
            if lane.kind in ("drive", "reserved"):
                known = self.outer.get(lane.edge)
                self.outer[lane.edge] = lane if known is None or lane.index < known.index else known
        for lanes in self.edges.values():
            lanes.sort(key=lambda lane: lane.index)
        self.links: dict[str, list[Link]] = defaultdict(list)
        self.into: dict[str, set[str]] = defaultdict(set)
        self.limits_before: dict[str, set[int]] = defaultdict(set)
        for link in road_map.links:
            start, end = road_map.lanes[link.from_lane], road_map.lanes[link.to_lane]
            self.links[start.edge].append(link)
            self.limits_before[end.edge].add(_kph(start))
            if link.via:
                self.into[_junction(link)].update((start.edge, end.edge))
        self.roads = [lane for lane in road_map.lanes.values() if lane.kind in ("drive", "internal", "reserved")]
        self.points, self.headings, self.halves, self.owners = self._segments()

    def _segments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return places along every lane a metre or less apart, with heading, half width and lane number."""
        places, headings, halves, owners = [], [], [], []
        for number, lane in enumerate(self.roads):
            step = np.diff(lane.line, axis=0)
            for a, b, heading in zip(lane.line[:-1], lane.line[1:], np.arctan2(step[:, 1], step[:, 0])):
                share = np.linspace(0.0, 1.0, int(np.hypot(*(b - a))) + 2)[:, None]
                places.append(a + share * (b - a))
                headings.append(np.full(len(share), heading))
                halves.append(np.full(len(share), lane.width / 2))
                owners.append(np.full(len(share), number))
        return np.concatenate(places), np.concatenate(headings), np.concatenate(halves), np.concatenate(owners)

    def signs_of(self, edge: str) -> Iterator[Sign]:
        """Yield the signs along one street."""
        outer, links, kerb = self.outer[edge], self.links[edge], self.road_map.kerb
        length = float(arc_lengths(outer.line)[-1])
        limit = _kph(outer if outer.kind == "drive" else self.edges[edge][0])
        if length > SHORTEST and self.limits_before[edge] - {limit}:
            yield from self._put(SignKind.LIMIT, outer, AFTER, kerb, value=limit)
        letters = {link.yields for link in links if not link.tls}
        if letters & set("sw"):
            yield from self._put(SignKind.STOP, outer, length - BEFORE, kerb)
        elif "m" in letters and "M" not in letters:
            yield from self._put(SignKind.YIELD, outer, length - BEFORE, kerb)
        if length > SHORTEST:
            barred = self._barred(edge)
            for kind, back in zip((SignKind.NO_LEFT, SignKind.NO_RIGHT), BARRED):
                if kind in barred:
                    yield from self._put(kind, outer, length - back, kerb)
            if self._guards_its_end(edge):
                yield from self._put(SignKind.NO_ENTRY, self.edges[edge][-1], length - BEFORE, -kerb)

    def _put(self, kind: SignKind, lane: Lane, at: float, side: float, value: int = 0) -> Iterator[Sign]:
        """Yield a sign beside a lane (side -1: right of it), moved back where another road is in its place."""
        s = arc_lengths(lane.line)
        for back in (0.0, STEP_BACK, 2 * STEP_BACK):
            here = float(np.clip(at - back if kind != SignKind.LIMIT else at + back, 0.0, s[-1]))
            k = min(max(int(np.searchsorted(s, here, side="right")) - 1, 0), len(s) - 2)
            along = lane.line[k + 1] - lane.line[k]
            along = along / max(float(np.hypot(*along)), 1e-6)
            place = (
                lane.line[k]
                + along * (here - s[k])
                + side * (lane.width / 2 + BESIDE) * np.array([-along[1], along[0]])
            )
            if (np.hypot(*(self.points - place).T) > self.halves + 0.5 * BESIDE).all():
                heading = float(np.arctan2(along[1], along[0])) + (np.pi if side == self.road_map.kerb else 0.0)
                yaw = (heading + np.pi) % (2 * np.pi) - np.pi
                yield Sign(x=float(place[0]), y=float(place[1]), yaw=yaw, kind=kind, lane=lane.id, value=value)
                return

    def _barred(self, edge: str) -> set[SignKind]:
        """Return which ways to the side end in a street that leads off but may not be entered from here."""
        links, lanes = self.links[edge], self.road_map.lanes
        if not links or not links[0].via:
            return set()
        arrive = _heading(self.edges[edge][0].line[-2:])
        taken = {lanes[link.to_lane].edge for link in links}
        turns = {end: _turn(arrive, _heading(self.edges[end][0].line[:2])) for end in taken}
        found = set()
        for end in self._leaving(_junction(links[0])) - taken - {edge}:
            turn = _turn(arrive, _heading(self.edges[end][0].line[:2]))
            # Near 180 degrees it is the street's own other side, and a turn round.
            if 0.7 < abs(turn) < 2.6 and all(abs(_turn(other, turn)) > 0.8 for other in turns.values()):
                found.add(SignKind.NO_LEFT if turn > 0 else SignKind.NO_RIGHT)
        return found

    def _leaving(self, junction: str) -> set[str]:
        return {
            self.road_map.lanes[link.to_lane].edge
            for edge in self.into[junction]
            for link in self.links[edge]
            if link.via and _junction(link) == junction
        }

    def _guards_its_end(self, edge: str) -> bool:
        """Tell whether a street is one-way and somebody could turn into its end."""
        links = self.links[edge]
        if not links or not links[0].via or not self._is_one_way(edge):
            return False
        junction = _junction(links[0])
        return any(
            other != edge and any(link.via and _junction(link) == junction for link in self.links[other])
            for other in self.into[junction]
        )

    def _is_one_way(self, edge: str) -> bool:
        """Tell whether nobody drives the other way beside a street's middle, away from its kerb."""
        lane = self.edges[edge][-1]
        k = (len(lane.line) - 1) // 2
        heading = _heading(lane.line[k : k + 2])
        middle = (lane.line[k] + lane.line[k + 1]) / 2
        aside = -self.road_map.kerb * (lane.width / 2 + 1.6) * np.array([-np.sin(heading), np.cos(heading)])
        near = np.hypot(*(self.points - middle - aside).T) < self.halves + 1.0
        return not (near & (np.cos(self.headings - heading) < -0.7)).any()


def _junction(link: Link) -> str:
    return link.via[0][1:].rsplit("_", 2)[0]


def _kph(lane: Lane) -> int:
    return round(lane.speed_limit * 3.6)


def _heading(pair: Float[np.ndarray, "2 2"]) -> float:
    return float(np.arctan2(*(pair[1] - pair[0])[::-1]))


def _turn(before: float, after: float) -> float:
    """Return the way from one heading to another, positive to the left."""
    return float((after - before + np.pi) % (2 * np.pi) - np.pi)
