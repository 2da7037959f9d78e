"""Driving one episode and recording it: environment and driver in, Episode out.

An episode driven by the expert is a demonstration; one driven by a policy is a rollout. Both carry the
expert's label at every state reached, so a rollout of the policy is DAgger's relabelled data
(Ross et al. 2011) without a second pass. Recovery is taught by disturbing the actuation, never the label.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from drivebyword.core.exploration import Choice, Exploration
from drivebyword.core.records import (
    AFFORDANCES,
    DECISIONS,
    Act,
    Actuation,
    Decision,
    Episode,
    Observation,
    Reason,
    Verdict,
)
from drivebyword.core.rig import Weather
from drivebyword.loop.driver import Driver

if TYPE_CHECKING:
    from drivebyword.world.env import DrivingEnv
    from drivebyword.world.expert import ExpertDecision


class ExpertPolicy:
    """The privileged expert behind the policy protocol: it reads the environment's ground truth."""

    def __init__(self, env: DrivingEnv) -> None:
        self.env = env

    def reset(self) -> None:
        """Nothing of its own to forget: the environment resets the expert."""

    def decide(self, observation: Observation) -> Decision:
        """Return what the expert would do now."""
        label = self.env.expert()
        return Decision(act=Act(label.act), reason=label.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class DisturbanceConfig:
    """Pushes on the actuation, to visit states from which the expert shows how to recover."""

    every_s: float = 9.0
    """Mean time between pushes."""
    duration_s: tuple[float, float] = (0.4, 1.2)
    steering: float = 0.25
    """Largest steering offset at walking pace; falls with speed so that the push is about 1 m/s2 sideways."""
    pedals: float = 0.4


class Disturbance:
    """Draws pushes and adds them to actuations."""

    def __init__(self, config: DisturbanceConfig, rng: np.random.Generator, dt: float) -> None:
        self.config, self.rng, self.dt = config, rng, dt
        self.left = 0.0
        self.offset = np.zeros(3)

    def apply(self, actuation: Actuation, speed: float) -> tuple[Actuation, bool]:
        """Return the actuation, pushed or not, and whether it was."""
        if self.left <= 0 and speed > 2.0 and self.rng.random() < self.dt / self.config.every_s:
            self.left = float(self.rng.uniform(*self.config.duration_s))
            steer = self.rng.uniform(-1, 1) * min(self.config.steering, 5.0 / (speed * speed))
            pedal = self.rng.uniform(-1, 1) * self.config.pedals
            self.offset = np.array([steer, max(pedal, 0.0), max(-pedal, 0.0) * 0.5])
        if self.left <= 0:
            return actuation, False
        self.left -= self.dt
        pushed = np.clip(actuation.as_array() + self.offset, (-1, 0, 0), 1)
        return Actuation(*(float(v) for v in pushed)), True


@dataclass(frozen=True, slots=True, kw_only=True)
class RescueConfig:
    """When the expert takes the wheel in a rollout, so that it goes on teaching instead of ending."""

    steering_gap: float = 0.35
    """Disagreement about steering that no longer is a matter of taste."""
    sideways: float = 10.0
    """The same at speed: times the squared speed, in (m/s)2; 10 means about 2 m/s2 sideways."""
    braking: float = 0.55
    """The expert brakes at least this hard while the driver does not brake."""
    lane_offset: float = 1.0
    """Metres from the lane's centre while not changing lanes."""
    standing_s: float = 3.0
    """Stood still this long while the expert would go."""
    for_s: float = 2.4


class Rescue:
    """Says, step by step, whether the expert should drive."""

    def __init__(self, config: RescueConfig, dt: float) -> None:
        self.config, self.dt = config, dt
        self.stuck_s, self.left = 0.0, 0.0

    def needed(
        self, actuation: Actuation, expert: ExpertDecision, observation: Observation, lane_offset: float
    ) -> bool:
        """Tell whether the expert drives this step."""
        c, first = self.config, expert.act[0]
        speed = float(observation.ego[0])
        self.stuck_s = self.stuck_s + self.dt if speed < 0.3 and float(first[1]) > 0.1 else 0.0
        changing = expert.reason is not None and DECISIONS[expert.reason.decision].startswith("change")
        danger = (
            abs(actuation.steering - float(first[0])) > min(c.steering_gap, c.sideways / max(speed, 1.0) ** 2)
            or (float(first[2]) > c.braking and actuation.brake < 0.15 and speed > 1.0)
            or (abs(lane_offset) > c.lane_offset and not changing)
            or self.stuck_s > c.standing_s
        )
        self.left = c.for_s if danger else self.left - self.dt
        return self.left > 0


@dataclass(slots=True)
class Recorder:
    """Collects rows of an episode; keeps what the sensors saw only when asked to."""

    keep_sensors: bool
    keep_snapshots: bool
    rows: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, **row: object) -> None:
        """Append one row; every call must name the same columns."""
        for name, value in row.items():
            self.rows.setdefault(name, []).append(value)

    def sensors(self, observed: dict[str, Any]) -> None:
        """Append what the sensors saw, as gymnasium has it: of one shape in every row."""
        for name, value in observed.items():
            if self.keep_sensors and (name.startswith("camera_") or name in ("lidar", "radar", "radar_valid")):
                self.rows.setdefault(name, []).append(value)

    def column(self, name: str, dtype: type | np.dtype) -> np.ndarray:
        """Return one column stacked."""
        return np.asarray(self.rows[name], dtype)

    def optional(self, name: str, dtype: type) -> np.ndarray | None:
        """Return one column stacked, or None where it was never recorded."""
        return np.asarray(self.rows[name], dtype) if name in self.rows else None


Watcher = Callable[["DrivingEnv", Decision, Actuation, Verdict], None]


def run_episode(
    env: DrivingEnv,
    driver: Driver,
    *,
    seed: int,
    scenario: str,
    name: str,
    options: dict[str, Any] | None = None,
    disturbance: DisturbanceConfig | None = None,
    rescue: RescueConfig | None = None,
    exploration: Exploration | None = None,
    label: bool = True,
    keep_sensors: bool = False,
    keep_snapshots: bool = False,
    watch: Watcher | None = None,
    transform: Callable[[Observation], Observation] | None = None,
    seconds: float | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Episode:
    """Reset, drive to the end and return the record.

    Args:
        name: the driver's name in the record.
        rescue: when the expert takes over from a driver that is about to fail.
        exploration: how the driver draws; each decision's log-probability is recorded.
        label: ask the expert for its label at every state (costs time; judging does without).
        watch: called after each decision, before the car moves.
        transform: changes what the driver sees (a blinded sensor, another sentence), not the record.
        seconds: end the drive here as `aborted` if the scene has not ended by itself.
        stop: asked after each step; ends the drive as `aborted`.
    """
    observed, info = env.reset(seed=seed, options={"scenario": scenario, **(options or {})})
    driver.reset()
    rng = np.random.default_rng([seed, 7])
    pushes = Disturbance(disturbance, rng, env.dt) if disturbance else None
    recorder = Recorder(keep_sensors, keep_snapshots)
    rescuer = Rescue(rescue, env.dt) if rescue else None
    ended = None
    while ended is None:
        observation = env.observation()
        seen = transform(observation) if transform else observation
        expert = env.expert() if label else None
        actuation, decision, verdict = driver.drive(seen, env.snapshot().time_s)
        if rescuer is not None and rescuer.needed(actuation, env.expert(), observation, info["lane_offset"]):
            actuation = Actuation(*(float(v) for v in env.expert().act[0]))
        disturbed = False
        if pushes is not None:
            actuation, disturbed = pushes.apply(actuation, float(observation.ego[0]))
        if watch is not None:
            watch(env, decision, actuation, verdict)
        motion, pose, snapshot = env.motion(), env.pose(), env.snapshot()
        recorder.sensors(observed)
        index, ego = info["instruction_index"], observed["ego"]
        observed, _, _, _, info = env.step(actuation.as_array())
        recorder.add(
            time_s=snapshot.time_s,
            pose=pose,
            motion=motion,
            instruction_index=index,
            act=decision.act.steps,
            reason=_reason_row(decision.reason),
            actuation=actuation.as_array(),
            disturbed=disturbed,
            verdict=int(verdict.kind),
            verdict_why=verdict.why,
            expert_act=expert.act[0] if expert is not None else np.full(3, np.nan),
            expert_reason=_reason_row(expert.reason if expert is not None else None),
            expert_plan=expert.plan if expert is not None else np.full((8, 2), np.nan),
            expert_speed=expert.speed if expert is not None else np.nan,
            affordances=expert.affordances if expert is not None else np.full(len(AFFORDANCES), np.nan),
            events=info["events"],
            route_completion=info["route_completion"],
            lane_offset=info["lane_offset"],
            time_to_collision=info["time_to_collision"],
            ego_observed=ego,
        )
        if exploration is not None:
            drawn = decision.choice or Choice(float("nan"), 0)
            recorder.add(log_prob=drawn.log_prob, passed=drawn.passed)
        if keep_snapshots:
            recorder.add(snapshot=snapshot)
        ended = info["ended"]
        late = seconds is not None and len(recorder.rows["time_s"]) * env.dt >= seconds
        if ended is None and (late or stop()):
            ended = "aborted"
    return _episode(env, recorder, seed, scenario, name, ended, exploration)


def _reason_row(reason: Reason | None) -> Float[np.ndarray, " 3"]:
    """Return a reason as three numbers, -1 for none."""
    return np.array([reason.decision, reason.cause, reason.relation] if reason else [-1, -1, -1], np.float64)


def _episode(
    env: DrivingEnv,
    recorder: Recorder,
    seed: int,
    scenario: str,
    name: str,
    ended: str,
    exploration: Exploration | None,
) -> Episode:
    """Stack the rows."""
    f32, i64, column = np.float32, np.int64, recorder.column
    weather: Weather = env.weather
    cameras = {n[7:]: column(n, np.uint8) for n in recorder.rows if n.startswith("camera_")}
    return Episode(
        scenario=scenario,
        seed=seed,
        driver=name,
        dt=env.dt,
        map_id=env.road_map.id,
        edge=env.edge,
        faults=env.scene.faults,
        weather=weather,
        rig=env.rig.name,
        instructions=list(env.mission.instructions),
        time_s=column("time_s", np.float64),
        pose=column("pose", np.float64),
        motion=column("motion", f32),
        instruction_index=column("instruction_index", i64),
        act=column("act", f32),
        reason=column("reason", i64),
        actuation=column("actuation", f32),
        disturbed=column("disturbed", bool),
        verdict=column("verdict", i64),
        verdict_why=recorder.rows["verdict_why"],
        expert_act=column("expert_act", f32),
        expert_reason=column("expert_reason", i64),
        expert_plan=column("expert_plan", f32),
        expert_speed=column("expert_speed", f32),
        affordances=column("affordances", f32),
        events=column("events", i64),
        route_completion=column("route_completion", f32),
        lane_offset=column("lane_offset", f32),
        time_to_collision=column("time_to_collision", f32),
        ended=ended,
        ego_observed=column("ego_observed", f32),
        exploration=exploration,
        log_prob=recorder.optional("log_prob", f32),
        passed=recorder.optional("passed", f32),
        cameras=cameras,
        lidar=recorder.optional("lidar", f32),
        radar=recorder.optional("radar", f32),
        radar_valid=recorder.optional("radar_valid", bool),
        snapshots=recorder.rows.get("snapshot", []),
    )
