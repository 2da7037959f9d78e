"""SUMO behind one class: a town and a demand in, agents, signals and the ego's speed plan out, step by step.

One step of SUMO is one decision of ours, taken in two halves so that SUMO's plan for the ego is made from
the state just observed and not from the one before: `plan` runs the first half (everybody plans and moves;
`getSpeedWithoutTraCI` then is what car-following and right of way want of the ego), `step` puts the ego
where its own dynamics took it and runs the second half. libsumo holds one simulation a process.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, no_type_check

import numpy as np
from jaxtyping import Float, Float32, Int
from numba import njit

from drivebyword.core.kinematics import CarConfig, CarState
from drivebyword.core.records import SignalState
from drivebyword.world.demand import EGO, MIN_GAP, Demand, Population, Spawn, Streets, first_round, write_demand
from drivebyword.world.events import ego_box
from drivebyword.world.graph import RoadGraph
from drivebyword.world.guests import Guests
from drivebyword.world.otherside import OtherSide, bare
from drivebyword.world.quiet import quiet_stderr
from drivebyword.world.reflex import Reflexes
from drivebyword.world.roads import RoadMap
from drivebyword.world.signals import Signals, colour_of

if TYPE_CHECKING:
    from drivebyword.world.cast import Cast

SENSE_RADIUS = 110.0
"""Agents farther from the ego than this, in metres, are left out of snapshots: no sensor of ours sees them."""

_RADIANS = math.pi / 180.0
_owner: Traffic | None = None
_started = False
_halfway = False
"""True between the two halves of a step: SUMO carries that over to the next simulation it loads."""


@njit(cache=True)
@no_type_check
def _lay_out(agents, lights, rows, values, size, yaws, seen, step, dt):  # type: ignore[no-untyped-def]
    """Turn SUMO's front bumpers and compass angles into centres, yaws and velocities; `yaws` and `seen` remember."""
    for k in range(rows.shape[0]):
        row, x, y, speed = rows[k], values[5 * k], values[5 * k + 1], values[5 * k + 3]
        yaw = (90.0 - values[5 * k + 2]) * (np.pi / 180.0)
        c, s, back = np.cos(yaw), np.sin(yaw), 0.5 * size[row, 0]
        turned = (yaw - yaws[row] + np.pi) % (2 * np.pi) - np.pi
        rate = turned / dt if seen[row] == step - 1 else 0.0
        yaws[row], seen[row] = yaw, step
        agents[k, 0], agents[k, 1], agents[k, 2] = x - back * c, y - back * s, (yaw + np.pi) % (2 * np.pi) - np.pi
        agents[k, 3], agents[k, 4], agents[k, 5] = size[row, 0], size[row, 1], size[row, 2]
        agents[k, 6], agents[k, 7], agents[k, 8] = speed * c, speed * s, rate
        # SUMO's signal bits: 1 right indicator, 2 left indicator, 8 brake. Ours: 1 brake, 2 left, 4 right.
        bits = int(values[5 * k + 4])
        lights[k] = ((bits >> 3) & 1) | (bits & 2) | ((bits & 1) << 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leader:
    """Who is ahead of the ego on its way."""

    gap: float
    """Metres between bumpers, SUMO's minGap added back."""
    speed: float
    key: int
    """The agent's key in the snapshot; -1 for somebody out of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalAhead:
    """The next signal on the ego's way."""

    state: SignalState
    distance: float
    """Metres from the front bumper to the end of the approach lane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Foe:
    """A vehicle the ego has to yield to at the junction ahead."""

    key: int
    distance: float
    """Metres from the ego to the place where the two ways meet."""
    foe_distance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedPlan:
    """What SUMO's car-following and right-of-way rules want of the ego for the coming step."""

    speed: float
    """m/s at the end of the step."""
    accel: float
    """m/s2 that takes the ego there from its true speed."""
    leader: Leader | None = None
    signal: SignalAhead | None = None
    foes: tuple[Foe, ...] = ()
    """Only those the ego must let pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agents:
    """Everybody near the ego, in the layout of a Snapshot."""

    agents: Float32[np.ndarray, "M 9"]
    kind: Int[np.ndarray, " M"]
    lights: Int[np.ndarray, " M"]
    key: Int[np.ndarray, " M"]

    def joined(self, others: Agents) -> Agents:
        """Return both together, these first."""
        return Agents(
            agents=np.concatenate([self.agents, others.agents]),
            kind=np.concatenate([self.kind, others.kind]),
            lights=np.concatenate([self.lights, others.lights]),
            key=np.concatenate([self.key, others.key]),
        )


class Traffic:
    """The town's traffic with the ego in it."""

    def __init__(self, car: CarConfig, dt: float) -> None:
        self.car, self.dt = car, dt
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._sumo: Any = None
        self._planned: float | None = None
        self._reflexes: Reflexes
        self._acted = False
        """Whether the others' reflexes have been given for this step."""
        self._plan: SpeedPlan | None = None
        self._ahead: tuple[Any, Any] | None = None
        self._now = CarState(x=0.0, y=0.0, yaw=0.0)
        self._guests: Guests | None = None
        self.population: Population
        self.signals: Signals
        self.time_s = 0.0

    # ------------------------------------------------------------------ start

    def reset(
        self, road_map: RoadMap, streets: Streets, demand: Demand, spawn: Spawn, seed: int, warm_up_s: float = 8.0
    ) -> CarState:
        """Load the town, let traffic run with the ego parked at its spawn, and return the ego's state."""
        global _owner
        text, self.population = write_demand(streets, demand, spawn, self.car, seed)
        self._load(road_map, text, seed)
        _owner = self
        lane = road_map.lanes[spawn.lane].line
        self._now = self.state_on_lane(lane, spawn.position)
        self.signals = Signals(self._sumo, road_map, self.dt)
        self.signals.shift(seed)
        self._yaw = np.full(len(self.population.kind), np.nan)
        self._seen = np.full(len(self.population.kind), -2, np.int64)
        self._steps, self.time_s, self._acted, self._guests = 0, 0.0, False, None
        self._reflexes = Reflexes(self._sumo, self.dt)
        self._sumo.simulationStep()
        if EGO not in self._sumo.vehicle.getIDList():
            raise RuntimeError(f"SUMO could not put the ego on lane {spawn.lane} at {spawn.position:.1f} m")
        vehicle = self._sumo.vehicle
        vehicle.setLaneChangeMode(EGO, 0)
        self._planned = self._plan = self._ahead = None
        for _ in range(round(warm_up_s / self.dt)):
            self.step(self._now)
        self.time_s = 0.0
        return self._now

    def state_on_lane(self, lane: Float[np.ndarray, "P 2"], front: float) -> CarState:
        """Return the car's state, standing on a lane with its front bumper `front` metres along."""
        from drivebyword.core.geometry import arc_lengths

        s = arc_lengths(lane)
        rear = front - self.car.length
        at = [np.array([np.interp(d, s, lane[:, 0]), np.interp(d, s, lane[:, 1])]) for d in (rear, front)]
        heading = at[1] - at[0]
        yaw = math.atan2(heading[1], heading[0])
        overhang = self.car.rear_overhang
        return CarState(x=at[0][0] + overhang * math.cos(yaw), y=at[0][1] + overhang * math.sin(yaw), yaw=yaw)

    def _load(self, road_map: RoadMap, text: str, seed: int) -> None:
        global _started, _halfway
        import libsumo

        self._sumo = OtherSide(libsumo) if road_map.left_hand else libsumo
        self._ask_vehicles = bare(self._sumo.vehicle, "vehicle", "getPosition", "getAngle", "getSpeed", "getSignals")
        self._ask_people = bare(self._sumo.person, "person", "getPosition", "getAngle", "getSpeed")
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="drivebyword-")
        routes = Path(self._folder.name) / "demand.rou.xml"
        routes.write_text(text, encoding="ascii")
        options = ["-n", road_map.right_hand_net(), "-r", str(routes), "--step-length", f"{self.dt:g}"]
        options += ["--collision.action", "none", "--ignore-route-errors", "true", "--time-to-teleport", "-1"]
        options += ["--no-warnings", "true", "--no-step-log", "true", "--duration-log.disable", "true"]
        options += ["--xml-validation", "never", "--xml-validation.net", "never", "--seed", str(seed % (2**31))]
        options += ["--pedestrian.striping.dawdling", "0.1"]
        if _halfway:
            libsumo.simulationStep()
            _halfway = False
        if _started:
            libsumo.load(options)
        else:
            with quiet_stderr():
                libsumo.start(["sumo", *options])
            _started = True

    def close(self) -> None:
        """Remove the folder of demand files; a reset makes a new one."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    # ------------------------------------------------------------------ step

    def _check_owner(self) -> None:
        if _owner is not self:
            raise RuntimeError(
                "another DrivingEnv of this process has taken the simulation: SUMO holds one world a process"
            )

    def place(self, state: CarState, keep_route: int = 1) -> None:
        """Put the ego where its rear axle is: SUMO counts from the front bumper and clockwise from north."""
        reach = self.car.front
        x, y = state.x + reach * math.cos(state.yaw), state.y + reach * math.sin(state.yaw)
        angle = (90.0 - state.yaw / _RADIANS) % 360.0
        self._sumo.vehicle.moveToXY(EGO, "", -1, x, y, angle, keep_route)

    def ahead(self) -> tuple[float, SignalState | None]:
        """Return the gap to who is ahead on the ego's way (inf: nobody) and the next signal's colour."""
        if self._ahead is None:
            vehicle = self._sumo.vehicle
            found, signals = vehicle.getLeader(EGO, 100.0), vehicle.getNextTLS(EGO)
            self._ahead = found if found is not None and found[0] else None, signals[0] if signals else None
        leader, signal = self._ahead
        gap = math.inf if leader is None else float(leader[1]) + MIN_GAP
        return gap, None if signal is None else colour_of(signal[3])

    def planned_speed(self) -> float:
        """Run the step's first half and return the speed SUMO wants for the ego. Call after reading agents."""
        global _halfway
        if self._planned is None:
            self._check_owner()
            self.place(self._now)
            self._sumo.vehicle.setPreviousSpeed(EGO, self._now.speed)
            self._sumo.simulation.executeMove()
            _halfway = True
            self._planned = float(self._sumo.vehicle.getSpeedWithoutTraCI(EGO))
        return self._planned

    def speed_plan(self) -> SpeedPlan:
        """Return SUMO's plan and what stands behind it. Call after reading agents, before `step`."""
        if self._plan is None:
            leader = signal = None
            foes: tuple[Foe, ...] = ()
            if self._planned is None:
                self._check_owner()
                self.ahead()
                leader, signal, foes = self._leader(), self._signal(), self._foes()
            speed = self.planned_speed()
            accel = (speed - self._now.speed) / self.dt
            self._plan = SpeedPlan(speed=speed, accel=accel, leader=leader, signal=signal, foes=foes)
        return self._plan

    def _signal(self) -> SignalAhead | None:
        found = self._ahead[1] if self._ahead is not None else None
        if found is None:
            return None
        return SignalAhead(state=colour_of(found[3]), distance=float(found[2]))

    def _foes(self) -> tuple[Foe, ...]:
        return tuple(
            Foe(key=self._key(name), distance=float(distance), foe_distance=float(foe_distance))
            for name, distance, foe_distance, _, _, _, _, must_yield, _ in self._sumo.vehicle.getJunctionFoes(EGO, 40.0)
            if must_yield
        )

    def _key(self, name: str) -> int:
        if self._guests is not None and name in self._guests.keys:
            return self._guests.keys[name]
        rows = self.population.vehicle_rows if name in self.population.vehicle_rows else self.population.person_rows
        return int(self.population.key[rows[name]]) if name in rows else -1

    def _leader(self) -> Leader | None:
        found = self._ahead[0] if self._ahead is not None else None
        if found is None:
            return None
        name, gap = found
        domain = self._sumo.person if name in self.population.person_rows else self._sumo.vehicle
        speed = float(domain.getSpeed(name)) if self._key(name) >= 0 else 0.0
        return Leader(gap=float(gap) + MIN_GAP, speed=speed, key=self._key(name))

    def step(self, state: CarState) -> None:
        """End the step with the ego at `state`."""
        global _halfway
        self.planned_speed()
        self._planned = self._plan = self._ahead = None
        self.place(state)
        if self._guests is not None:
            self._guests.move()
        self._sumo.simulationStep()
        _halfway = False
        self._now = state
        self._steps, self._acted = self._steps + 1, False
        self.time_s += self.dt

    def set_route(self, edges: list[str]) -> None:
        """Tell SUMO the ego's way from its current edge on (inside a junction: from the edge before it)."""
        vehicle, self._ahead = self._sumo.vehicle, None
        edges = first_round(edges)
        try:
            vehicle.setRoute(EGO, edges)
        except self._sumo.TraCIException:
            # SUMO has the ego on another edge than we: it left the way it was given.
            self.place(self._now, keep_route=0)
            self._rejoin(edges)

    def _rejoin(self, edges: list[str]) -> None:
        """Take the ego out and put it back on its new way."""
        vehicle = self._sumo.vehicle
        vehicle.remove(EGO)
        name = f"way{self._steps}"
        self._sumo.route.add(name, edges)
        vehicle.add(EGO, name, typeID="ego", departLane="first", departPos="0", departSpeed="0")
        vehicle.setLaneChangeMode(EGO, 0)
        self.place(self._now)

    def invite(self, graph: RoadGraph, cast: Cast, ways: list[Float[np.ndarray, "_ 2"]]) -> None:
        """Bring a cast on, and take SUMO's own vehicles off the ways it will use."""
        self._guests, self._ahead = Guests(self._sumo, graph, cast), None
        for line in ways:
            self._guests.clear(line, 5.0)
        self._guests.move()

    def set_speed_factor(self, factor: float) -> None:
        """Let SUMO plan for this share of the speed limit."""
        self._sumo.vehicle.setSpeedFactor(EGO, factor)

    # ------------------------------------------------------------------ read

    def agents(self, radius: float = SENSE_RADIUS) -> Agents:
        """Return everybody within `radius` of the ego. Call between `step` and `speed_plan`."""
        people, ex, ey = self.population, self._now.x, self._now.y
        rows: list[int] = []
        names: list[str] = []
        values: list[float | int] = []
        get_position, get_angle, get_speed, get_signals = self._ask_vehicles
        for name in self._sumo.vehicle.getIDList():
            if name == EGO or (self._guests is not None and name in self._guests.keys):
                continue
            x, y = get_position(name)
            if (x - ex) ** 2 + (y - ey) ** 2 < radius * radius:
                rows.append(people.vehicle_rows[name])
                names.append(name)
                values += (x, y, get_angle(name), get_speed(name), get_signals(name))
        get_position, get_angle, get_speed = self._ask_people
        for name in self._sumo.person.getIDList():
            x, y = get_position(name)
            if (x - ex) ** 2 + (y - ey) ** 2 < radius * radius:
                rows.append(people.person_rows[name])
                values += (x, y, get_angle(name), get_speed(name), 0)
        found = self._assemble(rows, values)
        if not self._acted:
            self._reflexes.act(ego_box(self._now, self.car), self._now.speed, self._now.yaw_rate, names, found.agents)
            self._acted = True
        return found

    def _assemble(self, rows: list[int], values: list[float | int]) -> Agents:
        """Return the rows' agents; `values` holds x, y, angle, speed and lamps of each, one after another."""
        at, people = np.array(rows, np.int64), self.population
        agents = np.empty((len(rows), 9), np.float32)
        lights = np.empty(len(rows), np.int64)
        _lay_out(agents, lights, at, np.array(values, np.float64), people.size, self._yaw, self._seen, self._steps,
                 self.dt)  # fmt: skip
        return Agents(agents=agents, kind=people.kind[at], lights=lights, key=people.key[at])

    def count(self) -> tuple[int, int]:
        """Return how many vehicles (without the ego) and people are in town now."""
        return int(self._sumo.vehicle.getIDCount()) - 1, int(self._sumo.person.getIDCount())
