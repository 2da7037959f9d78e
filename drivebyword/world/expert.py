"""The privileged driver: ground truth and the mission in; act, reason, plan and speed out.

Speed is SUMO's own plan for the ego (car-following and right of way), made gentler by profiles for
what is known ahead (curves, limits, signals, leaders, stops) and safer by a swept-path check. Steering is
pure pursuit on lane centres and links. It uses only what some sensor of the student can see.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, pi

import numpy as np
from jaxtyping import Float, Float32

from drivebyword.core.kinematics import CarConfig, CarState, advance
from drivebyword.core.records import PLAN_DISTANCES, THINGS, AgentKind, Lights, Reason, SignalState, Snapshot
from drivebyword.core.rig import Weather
from drivebyword.world import pedals
from drivebyword.world.caution import Ahead, find_conflict, find_gap, find_leader
from drivebyword.world.crossing import find_flow
from drivebyword.world.directing import find_direction
from drivebyword.world.foresight import Foresight
from drivebyword.world.giving import GivingWay
from drivebyword.world.graph import RoadGraph
from drivebyword.world.outlook import Limit, Outlook, reason_of
from drivebyword.world.parked import pace_past
from drivebyword.world.passing import Passing
from drivebyword.world.paths import Track
from drivebyword.world.roads import RoadMap
from drivebyword.world.sidestep import Sidestep
from drivebyword.world.sight import Sight, SignalOnWay, affordances
from drivebyword.world.traffic import SpeedPlan
from drivebyword.world.wayfinding import Errand, Wayfinder

_OPEN, _AMBER = (int(SignalState.GREEN), int(SignalState.DARK)), int(SignalState.AMBER)
_BICYCLE = int(AgentKind.BICYCLE)
FUTURE = 4
"""F: decisions in an act chunk."""
HORIZON = 5
"""Decisions rolled forward: one second."""
STAND_OFF, SLACK = 2.5, 1.5
"""Metres between the front bumper and a stop line, and how much of that may be used up rather than brake hard."""
AMBER_BRAKE = 3.0
HARD = 6.0
"""m/s2 that a driver keeps for when it is needed (Euro NCAP CCRb's lead brakes with it)."""
DIRECTED_GAP, PAST_FLAGGER, BESIDE_WORKS = 6.0, 6.5, 15.0
"""Metres kept to who signals stop; m/s past a flagger who lets traffic through (25 km/h are allowed); metres within
which the works go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertDecision:
    """What the expert would do now, why, and where it is going."""

    act: Float[np.ndarray, "F 3"]
    reason: Reason
    plan: Float32[np.ndarray, "P 2"]
    """Its path at PLAN_DISTANCES, ego frame."""
    speed: float
    """m/s it expects one second ahead."""
    affordances: Float32[np.ndarray, " A"]
    """What matters for the act, in the order of AFFORDANCES."""
    blocked: bool = False
    """True where the lane does not lead where the mission goes and no change was possible."""


class Expert:
    """Drives by ground truth."""

    def __init__(self, road_map: RoadMap, graph: RoadGraph, car: CarConfig, dt: float) -> None:
        self.road_map, self.graph, self.car, self.dt = road_map, graph, car, dt
        self.wayfinder, self.foresight = Wayfinder(graph, car), Foresight(graph)
        self.sidestep, self.passing = Sidestep(graph, car, dt), Passing(graph, car)
        self.giving = GivingWay(car, road_map.kerb)
        self._front = car.front
        self._head = {head.lane: k for k, head in enumerate(road_map.signals)}
        self.reset()

    def reset(self, weather: Weather | None = None, friction: float = 1.0) -> None:
        """Forget the last scene, and see what the next one's air and road are like.

        Nominal fog is thinner than a town's speeds need, nominal roads grip: there nothing changes.
        """
        weather = weather or Weather()
        self._within_sight = pedals.speed_within(weather.sight)
        # Stopping takes as long on a wet road as from the limit on a dry one.
        self._pace = weather.grip**0.5
        self._lateral = min(pedals.LATERAL_COMFORT, 0.4 * 9.81 * friction)
        self.wayfinder.reset()
        self.foresight.reset()
        self.sidestep.reset()
        self.passing.reset()
        self.giving.reset()
        self._flagged = False
        self._amber: tuple[str, bool] | None = None

    def decide(self, snapshot: Snapshot, state: CarState, mission: Errand, speed_plan: SpeedPlan) -> ExpertDecision:
        """Return the act, its reason, the path and the speed, at any state the car may be in."""
        way = self.wayfinder.update(state, snapshot, mission)
        way.track = self.giving.find(way.track, way.s, way.offset, state.speed, snapshot)
        way.track = self.passing.find(way.track, way.s, way.offset, snapshot)
        track, s = way.track, way.s
        # In the wet slower than on a dry road, unless the passenger is in a hurry; never faster than the limit.
        factor = mission.speed_factor * (self._pace if mission.speed_factor < 1.0 else 1.0)
        speeds = pedals.curve_speeds(track, s, factor, lateral=self._lateral)
        sight = self._look(snapshot, state)
        limits = self._limits(snapshot, state, speed_plan, sight)
        self._step_aside(snapshot, limits, speed_plan)
        caps = [float(np.interp(s, track.s, track.limit)), self._within_sight, self.passing.pace(s)]
        caps += [pace_past(track, s, snapshot, self.car, self.graph)]
        caps += [self.giving.pace] if self.giving.pace is not None else []
        caps += [way.pace] if way.pace is not None else []
        caps += [PAST_FLAGGER] if self._past_flagger(sight, snapshot) else []
        cap = min(caps)
        outlook = Outlook(track=track, start=s, speeds=speeds, limits=limits, cap=cap)
        act, pace, first, cause = self._roll(state, outlook)
        plan = np.array([track.at(s + d) for d in PLAN_DISTANCES])
        reason = reason_of(state, self._front, outlook, act, pace, first, cause, self.wayfinder.changing(state))
        return ExpertDecision(
            act=act,
            reason=reason,
            plan=_in_ego_frame(plan, state),
            speed=pace[-1],
            affordances=affordances(sight, state.speed, speed_plan, self.dt),
            blocked=way.blocked,
        )

    def _look(self, snapshot: Snapshot, state: CarState) -> Sight:
        """Gather what the way ahead holds."""
        track, s = self.wayfinder.way.track, self.wayfinder.way.s
        front = s + self._front
        span = next((span for span in track.links_ahead(s) if span.link is not None and span.end > front), None)
        signal = self._next_signal(track, s, snapshot)
        dark = signal is not None and signal.colour == int(SignalState.DARK)
        return Sight(
            signal=signal,
            leader=find_leader(track, s, snapshot, self.car),
            conflict=find_conflict(track, s, state.speed, snapshot, self.car, self.foresight),
            direction=find_direction(track, s, snapshot),
            line=span.start if span is not None and span.start > front - 0.5 else None,
            gap=find_gap(track, s, state.speed, snapshot, self.car, self.foresight, dark),
            person=self._person_near(snapshot),
            junction=max(0.0, span.start - front) if span is not None else None,
        )

    def _past_flagger(self, sight: Sight, snapshot: Snapshot) -> bool:
        """Tell whether a flagger lets the car through, up to the last of the works' things beside it."""
        works = snapshot.agents[np.isin(snapshot.agent_kind, THINGS), :2] - snapshot.ego[:2]
        beside = bool((np.hypot(works[:, 0], works[:, 1]) < BESIDE_WORKS).any())
        told = sight.direction is not None and sight.direction.slowly
        self._flagged = told or (self._flagged and beside)
        return self._flagged

    def _step_aside(self, snapshot: Snapshot, limits: list[Limit], plan: SpeedPlan) -> None:
        """Swerve round who stands in a junction, where nobody else holds the car; from the next decision on."""
        way = self.wayfinder.way
        waits = any(limit.stop < inf for limit in limits) or plan.speed < 0.1
        blocker = None if waits else next((limit.row for limit in limits if limit.row is not None), None)
        bent = self.sidestep.find(way.track, way.s, way.offset, blocker, snapshot)
        if bent is not None:
            way.track = bent

    # ------------------------------------------------------------------ what holds the car back

    def _limits(self, snapshot: Snapshot, state: CarState, plan: SpeedPlan, sight: Sight) -> list[Limit]:
        way = self.wayfinder.way
        track, s = way.track, way.s
        limits = []
        signal = self._signal(sight.signal, state)
        if signal is not None:
            limits.append(signal)
        if way.stop is not None:
            limits.append(Limit(cause="instruction", relation="here", stop=way.stop))
        if sight.direction is not None and sight.direction.stop:
            halt = sight.direction.at - DIRECTED_GAP
            if sight.line is not None and s + self._front < sight.line + 0.5:
                halt = min(halt, sight.line - STAND_OFF)
            limits.append(Limit(cause="pedestrian", relation="ahead", stop=halt, slack=SLACK))
        flow = find_flow(track, s, state.speed, snapshot, self.car)
        if flow is not None:
            limits.append(Limit(cause="crossing_traffic", relation="ahead", stop=flow, slack=SLACK))
        if self.passing.wait_at is not None:
            limits.append(Limit(cause="obstacle", relation="ahead", stop=self.passing.wait_at))
        if way.blocked_at is not None:
            limits.append(Limit(cause="obstacle", relation="ahead", stop=way.blocked_at))
        leader = sight.leader
        if leader is not None:
            cause = "pedestrian" if leader.person else "lead_vehicle"
            limits.append(Limit(cause=cause, relation="ahead", leader=leader, row=leader.row, stops=leader.speed < 0.5))
            line = self._keep_clear(track, s, leader, snapshot)
            if line is not None:
                limits.append(Limit(cause=cause, relation="junction_ahead", stop=line))
        conflict = sight.conflict
        following = leader is not None and conflict is not None and leader.row == conflict.row
        if conflict is not None and not (following and conflict.time_s > 1.0):
            need = state.speed**2 / (2 * max(conflict.distance - 1.5, 0.2))
            if need > (0.5 if conflict.person else 0.9) or state.speed < 2.0:
                cause = "lead_vehicle" if following or conflict.side == "ahead" else "crossing_traffic"
                cause = "pedestrian" if conflict.person else cause
                limits.append(Limit(cause=cause, relation=conflict.side, row=conflict.row, accel=-max(need, 0.8)))
        if sight.gap is not None:
            limits.append(Limit(cause="crossing_traffic", relation="junction_ahead", stop=sight.gap))
        limits.append(self._sumo_limit(snapshot, state, plan, signal, sight))
        return limits

    def _keep_clear(self, track: Track, s: float, leader: Ahead, snapshot: Snapshot) -> float | None:
        """Return where to wait while somebody who stands or slows down to turn is in the junction ahead.

        Whoever waits there to turn may in turn wait for a car that has already crossed its line.
        """
        front = s + self._front
        tail = front + leader.gap
        span = next((span for span in track.links_ahead(s) if span.start > front), None)
        if span is None or span.link is None or not span.start - 1.0 < tail < span.end + self.car.length:
            return None
        told = int(snapshot.agent_lights[leader.row]) & (Lights.LEFT | Lights.RIGHT)
        straight, near = span.link.direction == "straight", span.link.direction == self.road_map.near_side
        across = Lights.RIGHT if self.road_map.left_hand else Lights.LEFT
        elsewhere = (straight and told != 0) or (near and told == across)
        gaining = float(self.foresight.accelerations(snapshot)[leader.row]) > 0.3
        bicycle = int(snapshot.agent_kind[leader.row]) == _BICYCLE  # which has no indicators
        waits = elsewhere or (leader.speed < (4.5 if bicycle else 2.0) and not gaining)
        return span.start - 0.7 if waits else None

    def _next_signal(self, track: Track, s: float, snapshot: Snapshot) -> SignalOnWay | None:
        """Return the next signal on the way, if it is within sight."""
        front = s + self._front
        for span in track.links_ahead(s):
            if span.link is None or span.start < front - 0.3:
                continue
            head = self._head.get(span.lane.id)
            if span.link.tls is None or head is None or span.start - front > 75.0:
                return None
            return SignalOnWay(
                colour=int(snapshot.signals[head]), room=span.start - front, line=span.start, lane=span.link.from_lane
            )
        return None

    def _signal(self, signal: SignalOnWay | None, state: CarState) -> Limit | None:
        """Return the stop line to stop at, by the colour of the next signal on the way."""
        if signal is None or signal.colour in _OPEN:
            self._amber = None
            return None
        if signal.colour == _AMBER:
            if self._amber is None or self._amber[0] != signal.lane:
                late = state.speed**2 / (2 * max(signal.room - 0.3, 0.05)) > AMBER_BRAKE
                self._amber = (signal.lane, late)
            if self._amber[1]:
                return None
        return Limit(cause="red_light", relation="junction_ahead", stop=signal.line - STAND_OFF, slack=SLACK)

    def _sumo_limit(
        self, snapshot: Snapshot, state: CarState, plan: SpeedPlan, signal: Limit | None, sight: Sight
    ) -> Limit:
        """Name the cause of SUMO's own plan as well as it can be told."""
        accel = (plan.speed - state.speed) / self.dt
        if sight.leader is not None and not plan.foes and plan.leader is not None:
            # SUMO opens too small a gap within one step; nobody brakes like that who could still stop behind.
            enough = state.speed**2 / (2 * max(sight.leader.gap - 2.0, 0.5))
            accel = max(accel, -max(HARD, enough))
        stops = plan.speed < 0.5 or accel < -1.0
        limit = Limit(cause="crossing_traffic", relation="junction_ahead", accel=accel, stops=stops)
        person, leader = sight.person, sight.leader
        if plan.foes:
            limit.relation = self._side(snapshot, plan.foes[0].key)
        elif person is not None:
            limit.cause, limit.relation = "pedestrian", person
        elif signal is not None and sight.signal is not None and sight.signal.room < 8.0 + state.speed**2 / 3.0:
            limit.cause = "red_light"
        elif leader is not None and leader.gap < 6.0 + 2.5 * state.speed:
            limit.cause, limit.relation = ("pedestrian" if leader.person else "lead_vehicle"), "ahead"
        elif plan.leader is not None and plan.leader.gap < 6.0 + 2.5 * state.speed:
            limit.cause, limit.relation = "lead_vehicle", "ahead"
        return limit

    def _person_near(self, snapshot: Snapshot) -> str | None:
        """Tell where a person is who is on, or within 3 m of, the way through the next junction."""
        way = self.wayfinder.way
        people = snapshot.agents[snapshot.agent_kind == int(AgentKind.PEDESTRIAN)]
        if not len(people):
            return None
        low, high = np.searchsorted(way.track.s, (way.s, way.s + 28.0))
        line = way.track.line[low:high:2]
        if not len(line):
            return None
        gap = np.hypot(people[:, None, 0] - line[:, 0], people[:, None, 1] - line[:, 1]).min(1)
        moving = np.hypot(people[:, 6], people[:, 7]) > 0.2
        on_road = self.graph.is_drivable(people[:, :2].astype(np.float64))
        close = np.flatnonzero((gap < 5.0) & on_road & moving)
        if not len(close):
            return None
        nearest = people[close[np.argmin(gap[close])]]
        return self._bearing(snapshot, float(nearest[0]), float(nearest[1]))

    def _side(self, snapshot: Snapshot, key: int) -> str:
        rows = np.flatnonzero(snapshot.agent_key == key)
        if not len(rows):
            return "junction_ahead"
        return self._bearing(snapshot, float(snapshot.agents[rows[0], 0]), float(snapshot.agents[rows[0], 1]))

    def _bearing(self, snapshot: Snapshot, x: float, y: float) -> str:
        angle = np.arctan2(y - snapshot.ego[1], x - snapshot.ego[0]) - snapshot.ego[2]
        angle = float((angle + pi) % (2 * pi) - pi)
        return "ahead" if abs(angle) < 0.3 else ("left" if angle > 0 else "right")

    # ------------------------------------------------------------------ the next second

    def _roll(
        self, state: CarState, outlook: Outlook
    ) -> tuple[Float[np.ndarray, "F 3"], list[float], float, Limit | None]:
        """Run controller and car forward; return triples, speeds, the first acceleration and what set it."""
        triples, pace = [], []
        now, s, first, cause = state, outlook.start, 0.0, None
        for step in range(HORIZON):
            accel, limit = self._accel(now, s, step * self.dt, outlook)
            halt = now.speed < 0.3 and accel <= 0.05
            if step == 0:
                first, cause = accel, limit
            throttle, brake = pedals.press(pedals.soften(accel, now), now, self.car, halt)
            steer = pedals.pursue(outlook.track, s, now, self.car)
            triple = np.array([steer, throttle, brake])
            triples.append(triple)
            now = advance(now, triple, self.dt, self.car, substep=0.05)
            s = outlook.track.locate(now.x, now.y, s, back=2.0, ahead=8.0)[0]
            pace.append(now.speed)
        return np.stack(triples[:FUTURE]), pace, first, cause

    def _accel(self, now: CarState, s: float, later: float, outlook: Outlook) -> tuple[float, Limit | None]:
        """Return the acceleration wanted and the limit behind it (None: free, or a curve)."""
        glance = s + 0.4 * now.speed
        wanted = min(float(np.interp(glance, *outlook.speeds)), outlook.cap)
        accel, behind = pedals.toward_speed(wanted, now.speed), None
        front = s + self._front
        for limit in outlook.limits:
            if limit.leader is not None:
                gap = limit.leader.gap + limit.leader.speed * later - (s - outlook.start)
                value = pedals.behind_leader(gap, now.speed, limit.leader.speed)
            elif limit.stop < inf:
                value = pedals.toward_stop(limit.stop - front, now.speed, limit.slack)
            elif limit.accel < accel or later == 0.0:
                value = limit.accel if now.speed > 0.05 or limit.accel > 0 else min(0.0, limit.accel)
            else:
                continue
            if value < accel - 1e-6:
                accel, behind = value, limit
        return max(accel, -8.0), behind


def _in_ego_frame(points: Float[np.ndarray, "P 2"], state: CarState) -> Float32[np.ndarray, "P 2"]:
    cos, sin = np.cos(state.yaw), np.sin(state.yaw)
    x, y = points[:, 0] - state.x, points[:, 1] - state.y
    return np.stack([x * cos + y * sin, y * cos - x * sin], axis=1).astype(np.float32)
