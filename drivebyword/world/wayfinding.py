"""Where the expert drives: the car, the mission and the neighbours in; a track, lane changes and stops out."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from drivebyword.core.geometry import project
from drivebyword.core.kinematics import CarConfig, CarState
from drivebyword.core.records import Snapshot
from drivebyword.world.caution import dense, lane_is_free
from drivebyword.world.graph import LaneMatch, RoadGraph
from drivebyword.world.paths import Track, lay_track, shifted, target_lane
from drivebyword.world.pedals import BRAKE_COMFORT, FIRM
from drivebyword.world.roads import Lane, Link

OFF_TRACK = 1.3
"""Metres aside at which the car is no longer on its track and a new one starts from where it is."""
KERB_GAP = 0.4
"""Metres left to the kerb after pulling over."""
ALONGSIDE, MOVING_OVER = 0.12, 20.0
"""Metres aside that count as along the kerb, and metres driven for each that is missing: at 0.4 m, walking pace."""
BEFORE_JUNCTION, FROM_JUNCTION = 3.0, 6.0
"""Metres from a lane's end within which nobody stops, or parks (StVO section 12 (3): 5 m), on request."""
LAST_CHANCE = 9.0
"""Metres before a lane's end within which no change is begun."""
TOO_LATE = 6.0
"""Metres before a lane's end from which on the car goes where the lane leads."""
HURRIED = 5.0
"""m/s at most where lanes must be changed and the street is short."""
BEFORE_THE_END = 2.0
"""Metres before the end of a road that leads nowhere at which the car stops."""
WAIT_BEFORE = 16.0
"""Metres before a lane's end at which the car waits for a gap into the lane it needs."""


@runtime_checkable
class Errand(Protocol):
    """What the expert is told (world/mission.py)."""

    route: list[str]
    speed_factor: float
    hold: bool
    pull_over: bool
    lane_request: int | None


@dataclass(slots=True, kw_only=True)
class Way:
    """The track and the car's place on it."""

    track: Track
    s: float
    """Of the rear axle."""
    offset: float
    stop: float | None = None
    """Arc length for the front bumper to stop at, as asked for."""
    pace: float | None = None
    """m/s not to exceed, to have time for changing lanes."""
    blocked: bool = False
    blocked_at: float | None = None
    """Arc length to wait at for a gap."""
    astray: bool = False
    """True where the lane does not lead on as the mission wants and it is too late to change."""


@dataclass(slots=True, kw_only=True)
class _Start:
    """Where a track begins: on a lane, or in a junction on a link from that lane."""

    lane: Lane
    link: Link | None


class Wayfinder:
    """Keeps the expert's track up to date."""

    def __init__(self, graph: RoadGraph, car: CarConfig) -> None:
        self.graph, self.car = graph, car
        self._lanes = graph.road_map.lanes
        self._front = car.front
        self._dense: dict[str, Float[np.ndarray, "P 2"]] = {}
        self.reset()

    def reset(self) -> None:
        """Forget the last scene."""
        self._way: Way | None = None
        self._start: _Start | None = None
        self._onward: list[str] = []
        self._goal = 0.0
        self._side: str | None = None
        self._left: Lane | None = None
        self._merged_at = 0.0
        self._stop: tuple[str, float] | None = None

    @property
    def way(self) -> Way:
        """Return the way as last updated."""
        if self._way is None:
            raise RuntimeError("no way yet: call update() first")
        return self._way

    def update(self, state: CarState, snapshot: Snapshot, mission: Errand) -> Way:
        """Keep the track, or lay a new one where the mission, the lane or the car's place asks for it."""
        start, strayed = self._where(state, mission.route)
        if self._start is None or start.lane.edge != self._start.lane.edge:
            self._side = self._left = None
        onward = self._edges_after(start, mission.route)
        astray = blocked = False
        pace = None
        if start.link is None:
            start, moved = self._change_lanes(start, onward, state, snapshot, mission)
            strayed |= moved
            room = self._room(start.lane, state)
            changes = abs(self._wanted_index(start.lane, onward, mission) - start.lane.index)
            if changes and room < 15.0 + 25.0 * changes:
                pace = HURRIED
            blocked = bool(onward) and not self.graph.leads(start.lane.id, onward[0])
            astray = blocked and room < TOO_LATE
            if astray:
                onward = self._any_way(start.lane)
        self._plan_stop(start, state, mission)
        goal = self._kerb_offset(start, mission)
        if strayed or self._changed(start, onward, goal):
            self._lay(start, onward, goal, state)
        way = self.way
        way.s, way.offset, _ = way.track.locate(state.x, state.y, way.s)
        way.stop = self._stop[1] if self._stop is not None and self._stop[0] == start.lane.edge else None
        if start.link is None and not onward and way.stop is None:
            way.stop = self.graph.length(start.lane.id) - BEFORE_THE_END
        way.blocked, way.astray, way.blocked_at, way.pace = blocked, astray, None, pace
        if blocked and not astray:
            # A change begun is finished first: nobody should stand astride two lanes.
            end = self.graph.length(start.lane.id)
            way.blocked_at = min(end - 3.0, max(end - WAIT_BEFORE, self._merged_at + self._front))
        return way

    def _change_lanes(
        self, start: _Start, onward: list[str], state: CarState, snapshot: Snapshot, mission: Errand
    ) -> tuple[_Start, bool]:
        """Begin a change of lanes where one is wanted and the neighbour has room; call one off while it can be."""
        lane = start.lane
        if self._left is not None and self.changing(state) is not None:
            back = abs(self._aside(self._left, state))
            if back < 1.1 and not lane_is_free(self._points(lane), lane.width, snapshot, self.car, strict=False):
                lane, self._left, self._side = self._left, None, None
                return _Start(lane=lane, link=None), True
            return start, False
        want = self._wanted_index(lane, onward, mission)
        if want == lane.index or self._room(lane, state) <= LAST_CHANCE or abs(self._aside(lane, state)) > 0.9:
            return start, False
        beside = self._neighbour(lane, 1 if want > lane.index else -1)
        if beside is None or not lane_is_free(self._points(beside), beside.width, snapshot, self.car):
            return start, False
        road = self.graph.road_map
        self._left, self._side = lane, road.far_side if want > lane.index else road.near_side
        return _Start(lane=beside, link=None), True

    def changing(self, state: CarState) -> str | None:
        """Return left or right while on the way into another lane."""
        if self._side is None or self._start is None or self._start.link is not None:
            return None
        return self._side if abs(self._aside(self._start.lane, state)) > 1.0 else None

    # ------------------------------------------------------------------ where the car is

    def _where(self, state: CarState, route: list[str]) -> tuple[_Start, bool]:
        """Return the lane or link the car is on, and whether the track must be laid anew for that."""
        if self._way is not None and self._start is not None:
            track = self._way.track
            s, offset, heading = track.locate(state.x, state.y, self._way.s)
            error = abs((state.yaw - heading + pi) % (2 * pi) - pi)
            if abs(offset) < OFF_TRACK and error < 0.9 and s < track.length - 1.0:
                span = track.span_at(s)
                edge = self._lanes[span.link.to_lane].edge if span.link is not None else span.lane.edge
                if edge in route[:2] or span.link is not None:
                    if span.link is None and span.lane.edge == self._start.lane.edge:
                        return _Start(lane=self._start.lane, link=None), False
                    lane = span.lane if span.link is not None else self._arrived_on(track, span.start)
                    moved = span.link is None and lane.id != self._start.lane.id
                    return _Start(lane=lane, link=span.link), moved
        self._side = self._left = None
        return self._relocate(state, route), True

    def _arrived_on(self, track: Track, start: float) -> Lane:
        """Return the lane a link led to: where the track crosses over from it, nobody has looked for room yet."""
        link = next(span.link for span in reversed(track.spans) if span.link is not None and span.start < start)
        return self._lanes[link.to_lane]

    def _relocate(self, state: CarState, route: list[str]) -> _Start:
        """Find the lane or link the car is on, from nothing but where it is."""
        match = self.graph.lane_at(state.x, state.y, state.yaw)
        if match is not None and not match.internal and not match.wrong_way and abs(match.heading_error) < 1.3:
            return _Start(lane=self._lanes[match.lane], link=None)
        links = self.graph.links_between(route[0], route[1]) if len(route) > 1 else []
        best = self._nearest_link(state, links)
        if best is not None and best[0] < 2.0:
            return _Start(lane=self._lanes[best[1].from_lane], link=best[1])
        if match is not None and match.internal:
            other = self._link_under(state, match)
            if other is not None:
                return _Start(lane=self._lanes[other.from_lane], link=other)
        lanes = [lane for edge in route[:2] for lane in self.graph.lanes_of(edge)]
        if not lanes:
            raise ValueError(f"the mission's route names no edge of this town: {route[:2]}")
        here = np.array([state.x, state.y])
        return _Start(lane=min(lanes, key=lambda lane: abs(project(here, lane.line)[1])), link=None)

    def _nearest_link(self, state: CarState, links: list[Link]) -> tuple[float, Link] | None:
        """Return (badness, link) of the link that fits the pose best."""
        here, best = np.array([state.x, state.y]), None
        for link in links:
            _, offset, heading = project(here, link.path)
            badness = abs(offset) + 2.0 * abs((state.yaw - heading + pi) % (2 * pi) - pi)
            if best is None or badness < best[0]:
                best = (badness, link)
        return best

    def _link_under(self, state: CarState, match: LaneMatch) -> Link | None:
        through = self.graph.link_through(match.lane)
        if through is None:
            return None
        edge = self._lanes[through.from_lane].edge
        links = [k for lane in self.graph.lanes_of(edge) for k in self.graph.links_from(lane.id)]
        best = self._nearest_link(state, links)
        return best[1] if best is not None else through

    def _edges_after(self, start: _Start, route: list[str]) -> list[str]:
        """Return the edges to drive after the start's lane."""
        edge = start.lane.edge
        if start.link is not None:
            target = self._lanes[start.link.to_lane].edge
            rest = route[route.index(target) + 1 :] if target in route[:3] else []
            return [target, *rest][:4]
        if edge in route:
            return route[route.index(edge) + 1 :][:4]
        return self._any_way(start.lane)

    def _any_way(self, lane: Lane) -> list[str]:
        beyond = self.graph.beyond(lane.id)
        return [] if beyond is None else [beyond]

    # ------------------------------------------------------------------ lanes

    def _wanted_index(self, lane: Lane, onward: list[str], mission: Errand) -> int:
        lanes = self.graph.lanes_of(lane.edge)
        if mission.pull_over:
            return lanes[0].index
        request = mission.lane_request
        if request is not None and any(other.index == request for other in lanes):
            return request
        want = target_lane(self.graph, lane.edge, lane.index, onward)
        return lane.index if want is None else want

    def _neighbour(self, lane: Lane, side: int) -> Lane | None:
        for other in self.graph.lanes_of(lane.edge):
            if other.index == lane.index + side:
                return other
        return None

    def _aside(self, lane: Lane, state: CarState) -> float:
        """Return the car's offset from a lane's centre, positive left."""
        return project(np.array([state.x, state.y]), lane.line)[1]

    def _room(self, lane: Lane, state: CarState) -> float:
        """Return metres from the front bumper to the lane's end."""
        return self.graph.length(lane.id) - self._lane_arc(lane, state) - self._front

    def _points(self, lane: Lane) -> Float[np.ndarray, "P 2"]:
        if lane.id not in self._dense:
            self._dense[lane.id] = dense(lane.line)
        return self._dense[lane.id]

    def _lane_arc(self, lane: Lane, state: CarState) -> float:
        return project(np.array([state.x, state.y]), lane.line)[0]

    # ------------------------------------------------------------------ stops

    def _plan_stop(self, start: _Start, state: CarState, mission: Errand) -> None:
        """Choose where to stop: as near as is comfortable, alongside the kerb if told to pull over.

        Chosen anew every time, from the speed and the car's place in its lane: a driver who sees one moment and not
        which place was chosen before has to be able to tell what to do. A place farther on, chosen earlier, would ask a
        car that has become slow to go on.
        """
        if not (mission.hold or mission.pull_over):
            self._stop = None
            return
        if start.link is not None:
            return
        lane = start.lane
        if self._stop is not None and self._stop[0] != lane.edge:
            self._stop = None
        if mission.pull_over and lane.index != self.graph.lanes_of(lane.edge)[0].index:
            self._stop = None
            return
        front = self._lane_arc(lane, state) + self._front
        last = self.graph.length(lane.id) - (FROM_JUNCTION if mission.pull_over else BEFORE_JUNCTION)
        brake = state.speed**2 / (2 * BRAKE_COMFORT) + 0.05
        aside = self._to_kerb(lane, state) if mission.pull_over else 0.0
        there = state.speed < 0.5 and front > self.car.length and aside < 1.4 * ALONGSIDE
        if there and (mission.hold or front < last):
            self._stop = (lane.edge, front)
            return
        stop = front + max(brake, MOVING_OVER * max(0.0, aside - ALONGSIDE))
        if mission.hold and self._stop is not None:
            stop = min(stop, self._stop[1])
        stop = max(stop, self.car.length + 3.0)
        if stop > last:
            # Too late, or not yet alongside, before this junction: behind it, unless the stop has begun.
            if self._stop is None or state.speed**2 > 2 * FIRM * max(last - front, 0.3):
                self._stop = None
                return
            stop = last
        self._stop = (lane.edge, stop)

    def _to_kerb(self, lane: Lane, state: CarState) -> float:
        """Return metres that are missing, sideways, to where a car stands along the kerb."""
        return abs(self._aside(lane, state) - self._along_kerb(lane))

    def _along_kerb(self, lane: Lane) -> float:
        """Return the offset, positive left, of a car that stands along the kerb."""
        return self.graph.road_map.kerb * (lane.width / 2 - self.car.width / 2 - KERB_GAP)

    def _kerb_offset(self, start: _Start, mission: Errand) -> float:
        """Return the sideways goal, positive left: 0 is the lane's centre."""
        if not mission.pull_over or self._stop is None or self._stop[0] != start.lane.edge:
            return 0.0
        return self._along_kerb(start.lane)

    # ------------------------------------------------------------------ track

    def _changed(self, start: _Start, onward: list[str], goal: float) -> bool:
        if self._way is None or self._start is None:
            return True
        if goal != self._goal:
            return True
        if start.link is not None:
            # In a junction the track began on the edge before: only what comes after it can change.
            span = self._way.track.span_at(self._way.s)
            known = self._onward[self._onward.index(onward[0]) :] if onward[0] in self._onward else []
            return span.link is not start.link or known[: len(onward)] != onward[: len(known)]
        return start.lane.id != self._start.lane.id or onward != self._onward

    def _lay(self, start: _Start, onward: list[str], goal: float, state: CarState) -> None:
        """Lay a track from the start of the lane, led from where the car is onto the lane's centre."""
        track = lay_track(self.graph, start.lane.id, onward, start.link)
        here = np.array([state.x, state.y])
        if start.link is not None:
            near = self.graph.length(start.lane.id) + project(here, start.link.path)[0]
        else:
            near = project(here, start.lane.line)[0]
        s, offset, _ = track.locate(state.x, state.y, near, back=6.0, ahead=6.0)
        reach = self._blend_reach(offset - goal, state.speed)
        if abs(offset) > 0.15 or goal:
            track = shifted(track, s, offset, goal, reach)
        self._merged_at = s + reach if abs(offset) > 1.0 else 0.0
        self._way = Way(track=track, s=s, offset=offset)
        self._start, self._onward, self._goal = start, list(onward), goal

    def _blend_reach(self, aside: float, speed: float) -> float:
        """Return metres to come onto the lane: quick for small offsets, 3 s for a lane."""
        if abs(aside) > 1.8:
            return float(np.clip(3.2 * speed, 12.0, 36.0))
        return float(np.clip(2.0 * speed, 7.0, 24.0))
