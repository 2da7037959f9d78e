"""What happened in a step: ego, agents, roads and signals in, Event flags out. Geometry only.

At fault follows nuPlan (e924167): a moving ego that hits somebody who stands, hits with its front, or is
struck from the side while astride lanes. Struck from behind, or while standing, it is not.
"""

from __future__ import annotations

import math
from typing import no_type_check

import numpy as np
from jaxtyping import Float
from numba import njit

from drivebyword.core.kinematics import CarConfig, CarState
from drivebyword.core.records import PEOPLE, THINGS, AgentKind, Event
from drivebyword.world.graph import LaneMatch, RoadGraph
from drivebyword.world.judging import STANDING

STOPPED = 0.05
"""m/s: nuPlan's threshold for standing."""
CRAWLING = 1.0
"""m/s below which a person who walks into the car's side is not run into."""
TTC_HORIZON, TTC_STEP = 3.0, 0.15
WRONG_WAY_S, OFFROAD_S = 1.5, 1.0
_VULNERABLE = (*PEOPLE, AgentKind.BICYCLE, AgentKind.MOTORBIKE)


@njit(cache=True)
@no_type_check
def apart(ax, ay, ayaw, al, aw, bx, by, byaw, bl, bw):  # type: ignore[no-untyped-def]
    """Tell whether a separating axis exists between two oriented boxes."""
    dx, dy = bx - ax, by - ay
    for i in range(4):
        yaw = (ayaw if i < 2 else byaw) + (i % 2) * np.pi / 2
        c, s = np.cos(yaw), np.sin(yaw)
        reach = al * abs(np.cos(ayaw - yaw)) + aw * abs(np.sin(ayaw - yaw))
        reach += bl * abs(np.cos(byaw - yaw)) + bw * abs(np.sin(byaw - yaw))
        if abs(dx * c + dy * s) > reach / 2:
            return True
    return False


@njit(cache=True)
@no_type_check
def _touching(box, others):  # type: ignore[no-untyped-def]
    """Tell which rows (centre x, y, yaw, length, width, ...) overlap a box."""
    found = np.zeros(others.shape[0], np.bool_)
    for k in range(others.shape[0]):
        reach = (box[3] + box[4] + others[k, 3] + others[k, 4]) / 2
        if abs(others[k, 0] - box[0]) < reach and abs(others[k, 1] - box[1]) < reach:
            found[k] = not apart(
                box[0], box[1], box[2], box[3], box[4],
                others[k, 0], others[k, 1], others[k, 2], others[k, 3], others[k, 4],
            )  # fmt: skip
    return found


@njit(cache=True)
@no_type_check
def _time_to_collision(ego, speed, agents, horizon, step):  # type: ignore[no-untyped-def]
    """Return seconds until the ego's box meets an agent's, both keeping velocity and heading; inf if never."""
    vx, vy = speed * np.cos(ego[2]), speed * np.sin(ego[2])
    first = np.inf
    for k in range(agents.shape[0]):
        rx, ry = agents[k, 0] - ego[0], agents[k, 1] - ego[1]
        ux, uy = agents[k, 6] - vx, agents[k, 7] - vy
        radius = (ego[3] + ego[4] + agents[k, 3] + agents[k, 4]) / 2
        near2 = rx * rx + ry * ry
        closing = np.sqrt(ux * ux + uy * uy) * min(horizon, first)
        if near2 > (radius + closing) ** 2:
            continue
        t = 0.0
        while t <= horizon and t < first:
            if not apart(
                ego[0], ego[1], ego[2], ego[3], ego[4],
                ego[0] + rx + ux * t, ego[1] + ry + uy * t, agents[k, 2], agents[k, 3], agents[k, 4],
            ):  # fmt: skip
                first = t
            t += step
    return first


def ego_box(state: CarState, car: CarConfig) -> Float[np.ndarray, " 5"]:
    """Return the body's centre x, y, yaw, length, width."""
    ahead = car.length / 2 - car.rear_overhang
    return np.array(
        [state.x + ahead * math.cos(state.yaw), state.y + ahead * math.sin(state.yaw), state.yaw, car.length, car.width]
    )


def time_to_collision(box: Float[np.ndarray, " 5"], speed: float, agents: Float[np.ndarray, "M 9"]) -> float:
    """Return seconds at constant velocities; inf when none within the horizon."""
    return float(_time_to_collision(box, speed, agents, TTC_HORIZON, TTC_STEP))


class Referee:
    """Watches one scene."""

    def __init__(self, graph: RoadGraph, car: CarConfig, solids: Float[np.ndarray, "K 5"], dt: float) -> None:
        self.graph, self.car, self.solids, self.dt = graph, car, solids, dt
        self.offroad_s = self.wrong_way_s = 0.0
        self._standing_s = 0.0
        self._crept: str | None = None
        self._squeezing: set[int] = set()
        self._reach = car.front

    def judge(
        self,
        before: CarState,
        state: CarState,
        match_before: LaneMatch | None,
        match: LaneMatch | None,
        agents: Float[np.ndarray, "M 9"],
        kinds: np.ndarray,
        keys: np.ndarray,
        red: bool,
        detour: bool = False,
    ) -> Event:
        """Return the events of one step.

        Args:
            before: State at the start of the step.
            match_before: Lane at the start of the step.
            red: Whether the signal of the link the ego is about to take showed red when the step began.
            detour: Whether the oncoming lane may be used here.
        """
        box = ego_box(state, self.car)
        self._standing_s = self._standing_s + self.dt if state.speed < 0.1 else 0.0
        found = [self._collisions(box, state, match, agents, kinds, keys), self._off_road(box)]
        against = match is not None and match.wrong_way and not detour
        self.wrong_way_s = self.wrong_way_s + self.dt if against else 0.0
        if self.wrong_way_s > WRONG_WAY_S:
            found.append(Event.WRONG_WAY)
        found.append(self._stop_line(before, state, match_before, red))
        return Event(sum(map(int, found)))  # each has flags of its own

    def _collisions(
        self,
        box: Float[np.ndarray, " 5"],
        state: CarState,
        match: LaneMatch | None,
        agents: Float[np.ndarray, "M 9"],
        kinds: np.ndarray,
        keys: np.ndarray,
    ) -> Event:
        events = Event.NONE
        touching = np.flatnonzero(_touching(box, agents))
        # People squeeze past a car that stands; who came so near by themselves may also walk on from it.
        walkers = {int(keys[k]) for k in touching if kinds[k] == int(AgentKind.PEDESTRIAN)}
        self._squeezing = walkers if self._standing_s > 0.5 else walkers & self._squeezing
        for k in touching:
            if kinds[k] in THINGS:
                events |= Event.COLLISION_STATIC | Event.AT_FAULT
                continue
            person = kinds[k] in _VULNERABLE
            if int(keys[k]) in self._squeezing:
                continue
            if kinds[k] == int(AgentKind.PEDESTRIAN) and state.speed < CRAWLING and not _at_end(box, agents[k], 1):
                self._squeezing.add(int(keys[k]))  # walked into the side of a car that has barely started
                continue
            events |= Event.COLLISION_PERSON if person else Event.COLLISION_VEHICLE
            if self._at_fault(box, state, match, agents[k].astype(np.float64)):
                events |= Event.AT_FAULT
        if _touching(box, self.solids).any():
            events |= Event.COLLISION_STATIC | Event.AT_FAULT
        return events

    def _at_fault(
        self, box: Float[np.ndarray, " 5"], state: CarState, match: LaneMatch | None, other: Float[np.ndarray, " 9"]
    ) -> bool:
        """Tell whether a collision is the ego's fault, as nuPlan does."""
        if state.speed <= STOPPED:
            return False
        if math.hypot(other[6], other[7]) <= STOPPED:
            return True
        if _at_end(box, other, 1):
            return True
        if _at_end(box, other, -1) or match is None or match.internal:
            return match is None
        lane = self.graph.road_map.lanes[match.lane]
        return match.wrong_way or abs(match.offset) + self.car.width / 2 > lane.width / 2 + 0.1

    def _off_road(self, box: Float[np.ndarray, " 5"]) -> Event:
        corners, middle = self.graph.off_road(box)
        # The middle alone may lie on the hair between two lanes' rasters.
        off = corners >= 2 or (corners == 1 and middle)
        self.offroad_s = self.offroad_s + self.dt if off else 0.0
        return Event.OFFROAD if off else Event.NONE

    def _stop_line(self, before: CarState, state: CarState, match: LaneMatch | None, red: bool) -> Event:
        """Judge the front bumper against the stop line of the lane the step began on."""
        if self._crept is not None:
            line = self.graph.road_map.stop_lines[self._crept]
            gap = _beyond(self._front(state), line, state.yaw)
            if gap > 1.0 or gap < 0.0 or not red:
                self._crept = None
            if gap > 1.0 and red:
                return Event.STOP_LINE if state.speed < STANDING else Event.RED_LIGHT
        if match is None or match.internal or match.wrong_way or not red:
            return Event.NONE
        ends = self.graph.road_map.stop_lines.get(match.lane)
        # The line is a segment: on a bent street its prolongation may be crossed far from the junction.
        if ends is None or np.hypot(*(self._front(state) - ends.mean(axis=0))) > 6.0:
            return Event.NONE
        if not (
            _beyond(self._front(before), ends, match.heading) < 0.0 <= _beyond(self._front(state), ends, match.heading)
        ):
            return Event.NONE
        if state.speed > 0.5:
            return Event.RED_LIGHT
        self._crept = match.lane
        return Event.NONE

    def _front(self, state: CarState) -> Float[np.ndarray, " 2"]:
        return np.array([state.x + self._reach * math.cos(state.yaw), state.y + self._reach * math.sin(state.yaw)])


def _at_end(box: Float[np.ndarray, " 5"], other: np.ndarray, way: int) -> bool:
    """Tell whether somebody touches the front (way 1) or rear (-1) bumper of a box."""
    lead = way * (box[3] / 2 - 0.05)
    x, y = box[0] + lead * math.cos(box[2]), box[1] + lead * math.sin(box[2])
    return not apart(x, y, box[2], 0.1, box[4], other[0], other[1], other[2], other[3], other[4])


def _beyond(point: Float[np.ndarray, " 2"], line: Float[np.ndarray, "2 2"], heading: float) -> float:
    """Return how far a point is past a stop line, along the heading."""
    middle = line.mean(axis=0)
    across = line[1] - line[0]
    normal = np.array([-across[1], across[0]]) / max(float(np.hypot(*across)), 1e-9)
    if normal[0] * math.cos(heading) + normal[1] * math.sin(heading) < 0:
        normal = -normal
    return float((point - middle) @ normal)
