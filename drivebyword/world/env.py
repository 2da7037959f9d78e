"""The world as a gymnasium environment: actuation in, what the sensors saw out; ground truth only in `info`.

One step is one decision (0.2 s): SUMO moves everybody, the ego's own dynamics the ego, the sensors look, mission and
referee judge. The same seed gives the same bytes on every process. `drivebyword.world` registers it with gymnasium.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from jaxtyping import Float, Float32

from drivebyword import metrics
from drivebyword.core.edge import EdgeRecord
from drivebyword.core.kinematics import CarConfig, CarState, advance
from drivebyword.core.records import Event, Lights, Observation, Snapshot
from drivebyword.core.rig import RigConfig, Weather
from drivebyword.core.seeds import TRAIN_SEEDS, require_seed, seed_range
from drivebyword.world import events
from drivebyword.world.demand import Demand, Spawn
from drivebyword.world.faults import Faults
from drivebyword.world.graph import LaneMatch, RoadGraph
from drivebyword.world.judging import Moment, may_go
from drivebyword.world.mirror import mirrored_wording
from drivebyword.world.mission import Mission
from drivebyword.world.observing import action_space, actuation_of, as_dict, observation_space
from drivebyword.world.odometer import Odometer
from drivebyword.world.place import Place, Places
from drivebyword.world.play import Play
from drivebyword.world.reward import Earnings, Motion
from drivebyword.world.roads import RoadMap
from drivebyword.world.saying import wording_of
from drivebyword.world.scenario import Scenario, Scene
from drivebyword.world.stage import Stage, set_stage
from drivebyword.world.starts import settle, starting_speed
from drivebyword.world.traffic import Traffic
from drivebyword.world.wanted import Wanted, scenario_of

if TYPE_CHECKING:
    from drivebyword.world.expert import ExpertDecision
    from drivebyword.world.sensors import SensorFrame
    from drivebyword.world.view import WorldView

DT = 0.2
IDLE_S = 40.0
"""A car that stands this long where SUMO would drive on has timed out: nothing more will come of it."""
BARRED_S = 5.0
"""A car that has stood this long before a blocked place has come to its minimal-risk condition."""


class DrivingEnv(gymnasium.Env[dict[str, Any], Float32[np.ndarray, " 3"]]):
    """A car, its sensors and a passenger in a SUMO town. One environment a process."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012 - gymnasium's name

    def __init__(
        self,
        rig: RigConfig | None = None,
        render_sensors: bool = True,
        car: CarConfig | None = None,
        render_mode: str | None = None,
        scenario: str | Scenario = "town",
        seeds: tuple[int, int] = (TRAIN_SEEDS.start, TRAIN_SEEDS.stop),
    ) -> None:
        """Make an environment; the simulation starts with the first reset.

        Args:
            rig: The car's sensors, which look if `render_sensors`; None for the tiny rig.
            scenario: What a reset starts that names none.
            seeds: Scene seeds [first, last) that a reset without a seed draws from.
        """
        from drivebyword.world.rigs import tiny

        self.rig, self.car, self.dt = rig or tiny(), car or CarConfig(), DT
        self.render_sensors, self.render_mode = render_sensors, render_mode
        self.scenario, self.seeds = scenario_of(scenario), seed_range(seeds)
        self.traffic = Traffic(self.car, self.dt)
        self.observation_space: gymnasium.spaces.Dict = observation_space(self.rig, render_sensors)
        self.action_space = action_space()
        self._places = Places(self.rig, self.car, self.dt, render_sensors)
        self.scene: Scene
        self.mission: Mission
        self.weather = Weather()
        self._place: Place
        self._state: CarState
        self._match: LaneMatch | None
        self._snapshot: Snapshot
        self._play: Play | None = None
        """The edge case on; None in nominal scenes."""
        self._faults: Faults
        self._body = self.car
        """The car on the road as it is: dry, wet or slippery."""
        self._observation: Observation | None = None
        self._expert_decision: ExpertDecision | None = None
        self._odometer: Odometer
        self._referee: events.Referee
        self._earnings: Earnings
        self._info: dict[str, Any]
        self._happened = Event.NONE
        self._ended: str | None = None
        self._over = True
        self._step, self._speed_factor, self._idle_s, self._barred_s = 0, 0.0, 0.0, 0.0

    @property
    def road_map(self) -> RoadMap:
        """Return the roads of the present town."""
        return self._place.road_map

    @property
    def graph(self) -> RoadGraph:
        """Return the present town, indexed."""
        return self._place.graph

    @property
    def edge(self) -> EdgeRecord | None:
        """Return the truth about the scene's edge case; None in a nominal scene."""
        return self._play.record if self._play is not None else None

    @property
    def edge_keys(self) -> tuple[int, ...]:
        """Return the keys, in snapshots, of those the edge case is about."""
        return self._play.watch.keys if self._play is not None else ()

    # ------------------------------------------------------------------ gymnasium

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start a scene.

        Args:
            seed: Scene seed; its split (training, validation, test) decides the pool of towns. None draws one.
            options: `scenario` (name or Scenario), `weather` (Weather), `wording` (`train` or `test`: which
                sentences the passenger knows), `instruction` (a sentence, or (sentence, intent): typed at once
                instead of the scenario's script), `until_s` (do not arrive before this time), `mirror` (True: the
                exact mirror image of the scene, on the other side of the road).
        """
        seed = None if seed is None else require_seed(seed)
        wanted = Wanted.of(options or {}, self.scenario)
        super().reset(seed=seed)
        seed = int(self.np_random.integers(*self.seeds)) if seed is None else seed
        self._over, self._play = True, None  # a reset that fails leaves nothing to step
        self.scene = wanted.scene(seed)
        self._faults = Faults(self.scene.faults, self.rig, seed, self.dt)
        typed, wording, stage = wanted.typed, wording_of(wanted.wording), set_stage(self.scene, self._places.get)
        self.weather = wanted.weather or (stage.weather if stage is not None else None) or self.scene.weather
        if self.scene.image or (stage is not None and stage.left_hand):
            wording = mirrored_wording(wording)
        if stage is None:
            self._place, spawn = settle(self._places, self.scene, typed)
        else:
            self._place, spawn = stage.place, stage.spawn
        self._start(spawn, [] if typed or stage else list(self.scene.script), wording, stage)
        if stage is not None:
            typed = typed or (wording(stage.intent, np.random.default_rng([seed, 29])), stage.intent)
        self._body = (self._play.grip if self._play else self.car).on(self.weather.grip)
        self.mission.until_s = wanted.until_s
        if typed:
            self.say(*typed)
        if stage is not None:
            self.mission.tail = max(self.mission.tail, stage.tail)
        self._refresh(Event.NONE)
        return self.observed(), self._info

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Hold an actuation (steering, throttle, brake) for one decision period."""
        if self._over:
            raise RuntimeError("the scene is over: call reset() first")
        actuation = actuation_of(action)
        before, match = self._state, self._match
        red = self.traffic.signals.stops(self.graph, match, self.mission.route)
        told, motion = self.mission.index, self._motion()
        planned = self.traffic.planned_speed()
        self._state = advance(before, actuation, self.dt, self._body)
        if self._play is not None:
            self._play.step(before, self._step * self.dt)
        self.traffic.step(self._state)
        self._step += 1
        self._read()
        now = self._snapshot
        detour = self._play is not None and self._play.may_detour(self._state)
        happened = self._referee.judge(
            before, self._state, match, self._match, now.agents, now.agent_kind, now.agent_key, red, detour
        )
        self._odometer.advance(before, self._state)
        moment = self._moment(planned)
        happened |= self._advance_mission(moment)
        self._end(happened, moment)
        self._refresh(self._happened)
        earned = self._earnings.add(motion, told, self._info, self.mission.instructions)
        return self.observed(), earned, self._over and self._ended != "timeout", self._ended == "timeout", self._info

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """Return a 640x360 picture for people, when made with render_mode rgb_array."""
        return self.view() if self.render_mode is not None else None

    def close(self) -> None:
        """Give back what lies on disk. The simulation itself ends with the process or the next world's start."""
        self.traffic.close()
        self._over = True

    # ------------------------------------------------------------------ what a driving loop reads

    def observation(self) -> Observation:
        """Return what the policy may see now."""
        assert self._observation is not None, "call reset() first"
        return self._observation

    def observed(self) -> dict[str, Any]:
        """Return the observation as gymnasium has it."""
        return as_dict(self.observation(), self.observation_space if self.scene.faults else None)

    def snapshot(self) -> Snapshot:
        """Return ground truth now."""
        return self._snapshot

    def pose(self) -> Float[np.ndarray, " 3"]:
        """Return the rear axle's x, y, yaw in the map frame."""
        return np.array([self._state.x, self._state.y, self._state.yaw])

    def motion(self) -> Float32[np.ndarray, " 5"]:
        """Return speed, yaw rate, longitudinal and lateral acceleration, steering."""
        return np.array([*self._motion(), self._steering()], np.float32)

    def expert(self) -> ExpertDecision:
        """Return what the expert would do now, whoever drives."""
        if self._expert_decision is None:
            plan = self.traffic.speed_plan()
            self._expert_decision = self._place.expert.decide(self._snapshot, self._state, self.mission, plan)
        return self._expert_decision

    def world_view(self) -> WorldView:
        """Return what draws the present town for people, from any snapshot."""
        return self._place.view()

    def view(self, width: int = 640, height: int = 360) -> np.ndarray:
        """Return a picture for people."""
        return self.world_view().chase(self._snapshot, self.weather, width, height)

    def say(self, sentence: str, intent: str | None = None) -> None:
        """Type a sentence now; its meaning is for judging alone (None: nobody knows)."""
        self.mission.say(sentence, intent, self._moment(self._state.speed))
        self._odometer.new_trip()
        self._apply_route()
        self._expert_decision = None
        if self._observation is not None:
            self._look()

    # ------------------------------------------------------------------ inside

    def _motion(self) -> Motion:
        s = self._state
        return s.speed, s.yaw_rate, self._odometer.accel, s.speed * s.yaw_rate

    def _start(self, spawn: Spawn, script: list[str], wording: Any, stage: Stage | None) -> None:
        self._places.tidy()
        seed, lane = self.scene.seed, self.road_map.lanes[spawn.lane]
        middle = lane.line.mean(axis=0)
        demand = Demand(
            vehicles=self.scene.vehicles, people=self.scene.people, around=(float(middle[0]), float(middle[1]))
        )
        self._state = self.traffic.reset(self.road_map, self._place.streets, demand, spawn, seed % (2**31))
        if stage is not None:
            self._play, self._state.speed = Play(stage, self.traffic, self.car, self.dt), stage.speed
        rng = np.random.default_rng([seed, 7])
        self.mission = Mission(self.graph, self.car, list(spawn.route), script, rng, wording, self.dt)
        self._odometer = Odometer(self.car, seed, self.dt, self.rig.odometry)
        self._referee = events.Referee(self.graph, self.car, self._place.solids, self.dt)
        self._earnings = Earnings(self.dt)
        self._step, self._ended, self._over = 0, None, False
        self._happened, self._observation = Event.NONE, None
        self._speed_factor = self._idle_s = self._barred_s = 0.0
        self._read()
        if script and rng.random() > 0.4:  # else from a standstill
            limit = self.road_map.lanes[self._match.lane].speed_limit if self._match is not None else 8.0
            self._state.speed = starting_speed(self.traffic.ahead()[0], self._ahead(), limit, rng)
        self._apply_route()
        self._place.expert.reset(self.weather, self.car.friction if self._play is None else self._play.grip.friction)

    def _read(self) -> None:
        """Read everybody's state after a step."""
        signals = self.traffic.signals.read()
        near, s = self.traffic.agents(), self._state
        if self._play is not None:
            near = near.joined(self._play.agents())
        self._match = self.graph.lane_at(s.x, s.y, s.yaw)
        self._snapshot = Snapshot(
            time_s=self._step * self.dt,
            ego=np.array([s.x, s.y, s.yaw, s.speed, s.yaw_rate, self._steering()]),
            agents=near.agents,
            agent_kind=near.kind,
            agent_lights=near.lights | Lights.MIRRORED if self.scene.image else near.lights,
            agent_key=near.key,
            signals=signals,
        )
        self._expert_decision = None

    def _steering(self) -> float:
        return self._state.steer / self.car.steer_max

    def _ahead(self) -> float:
        """Return metres from the front bumper to the end of the edge."""
        match = self._match
        if match is None or match.internal or match.wrong_way:
            return 0.0
        return max(0.0, self.graph.remaining(match.lane, match.s) - self.car.front)

    def _moment(self, planned: float) -> Moment:
        gap, signal = self.traffic.ahead()
        match = self._match
        return Moment(
            step=self._step,
            dt=self.dt,
            state=self._state,
            match=match,
            ahead=self._ahead(),
            limit=self.road_map.lanes[match.lane].speed_limit if match is not None else 13.9,
            planned=planned,
            leader_gap=gap,
            curved=match is not None and self._place.is_curved(match.lane),
            signal=signal,
            agents=self._snapshot.agents,
        )

    def _advance_mission(self, moment: Moment) -> Event:
        index = self.mission.index
        changed, wrong = self.mission.update(moment)
        if self.mission.index != index:
            self._odometer.new_trip()
        if changed or self.mission.speed_factor != self._speed_factor:
            self._apply_route()
        return Event.WRONG_BRANCH if wrong else Event.NONE

    def _apply_route(self) -> None:
        self.traffic.set_route(self.mission.way)
        if self.mission.speed_factor != self._speed_factor:
            self._speed_factor = self.mission.speed_factor
            self.traffic.set_speed_factor(self._speed_factor)

    def _end(self, happened: Event, moment: Moment) -> None:
        asked = self.mission.hold or self.mission.pull_over
        idle = not asked and self._state.speed < 0.3 and may_go(moment)
        self._idle_s = self._idle_s + self.dt if idle else 0.0
        barred = self._play is not None and self._state.speed < 0.3 and self._play.is_barred(self._state)
        self._barred_s = self._barred_s + self.dt if barred else 0.0
        if happened & metrics.COLLISIONS:
            self._ended = "collision"
        elif self._referee.offroad_s > events.OFFROAD_S:
            self._ended = "offroad"
        elif self.mission.arrived:
            self._ended, happened = "arrived", happened | Event.ARRIVED
        elif self._barred_s > BARRED_S:
            self._ended = "stopped"
        elif self._idle_s > IDLE_S or self._step * self.dt >= max(self.scene.time_limit_s, self.mission.until_s + 30.0):
            self._ended, happened = "timeout", happened | Event.TIMEOUT
        self._over = self._ended is not None
        self._happened = happened

    def _refresh(self, happened: Event) -> None:
        """Let the sensors look and fill `info`."""
        self._look()
        match, s = self._match, self._state
        box = events.ego_box(s, self.car)
        if self._play is not None:
            self._play.look(s, self._snapshot.time_s, box, lambda: self._place.seen(self._snapshot, self.weather))
        self._info = {
            "events": int(happened),
            "snapshot": {name: getattr(self._snapshot, name) for name in Snapshot.__slots__},
            "route_completion": self.mission.completion,
            "lane_offset": math.nan if match is None or match.internal else match.offset,
            "time_to_collision": events.time_to_collision(box, s.speed, self._snapshot.agents.astype(np.float64)),
            "instruction_index": self.mission.index,
            "ended": self._ended,
            "faults": self._faults.active(self._step * self.dt),
        }
        self._info |= {"edge": asdict(self._play.record)} if self._play is not None else {}

    def _look(self) -> None:
        frame: SensorFrame | None = None
        if self._place.sensors is not None:
            # A number a step, so that a second look at the same step sees the same noise.
            seed = self.scene.seed
            frame = self._place.sensors.observe(self._snapshot, self.weather, seed * 100_003 + self._step, seed)
        seen = Observation(
            time_s=self._step * self.dt,
            cameras=frame.cameras if frame else {},
            lidar=frame.lidar if frame else None,
            radar=frame.radar if frame else None,
            radar_valid=frame.radar_valid if frame else None,
            ego=self._odometer.measure(self._state),
            instruction=self.mission.sentence,
        )
        self._observation = self._faults.apply(seen)
