"""What crosses a boundary: observations, acts, reasons, instructions, episodes.

Everything here is numpy, frozen and free of torch and I/O. Axis letters, one meaning each in the whole
project: B batch, E worlds, T frames, F future steps, V views, C channels, H W image rows and columns,
L sequence, D width, N heads, K head width, M agents, P points.

Frames are ISO 8855: x forward, y left, z up, origin at the ego's rear axle on the ground; angles in
radians, positive to the left (counter-clockwise); SI units bare, others in the name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from drivebyword.core.edge import EdgeRecord
from drivebyword.core.exploration import Choice, Exploration
from drivebyword.core.faults import FaultConfig
from drivebyword.core.rig import Weather

# --------------------------------------------------------------------------- what is observed

EGO_FIELDS = ("speed", "yaw_rate", "steering", "acceleration", "trip_distance", "trip_heading", "standing_s")
"""Measured by the ego itself: m/s, rad/s, [-1, 1], m/s2, and odometry since the sentence was typed:
metres driven, net heading change in radians, seconds stood still."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What the policy may see at one decision. A missing sensor is absent (None or no key), never zeros.

    A broken sensor (`core.faults`) may also give what has not the shape or type said here; `Driver` sorts it out.
    """

    time_s: float
    cameras: dict[str, UInt8[np.ndarray, "H W 3"]]
    lidar: Float32[np.ndarray, "beams columns 2"] | None
    """Range in metres (0 = no return) and intensity in [0, 1]."""
    radar: Float32[np.ndarray, "detections 4"] | None
    """Range m, azimuth rad, range rate m/s (positive recedes), RCS dBsm; padded rows are zero."""
    radar_valid: Bool[np.ndarray, " detections"] | None
    ego: Float32[np.ndarray, " 7"]
    """In the order of EGO_FIELDS."""
    instruction: str


# --------------------------------------------------------------------------- reason, act, verdict

DECISIONS = ("go", "slow", "stop", "wait", "turn_left", "turn_right", "change_left", "change_right")
CAUSES = ("clear", "instruction", "lead_vehicle", "pedestrian", "red_light", "crossing_traffic", "curve", "obstacle")
RELATIONS = ("ahead", "here", "left", "right", "junction_ahead", "in_junction")


@dataclass(frozen=True, slots=True)
class Reason:
    """Why: a decision, its cause and where the cause is. Indices into DECISIONS, CAUSES, RELATIONS."""

    decision: int
    cause: int
    relation: int

    def __str__(self) -> str:
        """Render as `slow | pedestrian | ahead`."""
        return f"{DECISIONS[self.decision]} | {CAUSES[self.cause]} | {RELATIONS[self.relation]}"


@dataclass(frozen=True, slots=True)
class Act:
    """A chunk of F future (steering [-1, 1], throttle [0, 1], brake [0, 1]) triples, one per decision period."""

    steps: Float[np.ndarray, "F 3"]


@dataclass(frozen=True, slots=True)
class Actuation:
    """What is sent to the car: steering [-1, 1] (positive left), throttle [0, 1], brake [0, 1]."""

    steering: float
    throttle: float
    brake: float

    def as_array(self) -> Float32[np.ndarray, " 3"]:
        """Return (steering, throttle, brake)."""
        return np.array([self.steering, self.throttle, self.brake], np.float32)


class VerdictKind(IntEnum):
    """The guard's answer."""

    ACCEPTED = 0
    CLIPPED = 1
    REPLACED = 2


@dataclass(frozen=True, slots=True)
class Verdict:
    """The guard's answer and why."""

    kind: VerdictKind
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a policy answers to one observation."""

    act: Act
    reason: Reason | None
    understood: bool = True
    """False when the sentence was not understood and the null instruction was driven."""
    choice: Choice | None = None
    """What it was drawn from; None where the driver takes what is best."""


# --------------------------------------------------------------------------- instructions

INTENTS = (
    "null",
    "follow",
    "left",
    "right",
    "straight",
    "left_second",
    "right_second",
    "straight_second",
    "stop",
    "pull_over",
    "go_on",
    "slower",
    "faster",
    "lane_left",
    "lane_right",
)
JUNCTION_INTENTS = INTENTS[2:8]
UNREAD = "unread"
"""Stands in place of an intent where nobody wrote down what a sentence means: recordings made elsewhere."""


def other_side(intent: str) -> str:
    """Return the intent as it is in a mirror: left and right change places, everything else stays."""
    swapped = {"left": "right", "right": "left"}
    return "_".join(swapped.get(part, part) for part in intent.split("_"))


@dataclass(slots=True, kw_only=True)
class InstructionRecord:
    """One sentence of an episode and what came of it."""

    step: int
    """Decision at which it was typed."""
    sentence: str
    intent: str
    """One of INTENTS: the meaning the world judges by; UNREAD in recordings made elsewhere."""
    deadline_s: float
    outcome: str = "pending"
    """pending, fulfilled, missed (deadline or wrong branch) or unfeasible (the road has no such branch)."""
    resolved_step: int | None = None
    branches: int = 0
    """For junction intents: number of legal branches at the junction it speaks of, else 0."""
    branch_taken: str | None = None
    """left, right or straight as driven, for junction intents once known."""


# --------------------------------------------------------------------------- ground truth


class AgentKind(IntEnum):
    """Other road users, and what lies or stands on the road."""

    CAR = 0
    VAN = 1
    TRUCK = 2
    BUS = 3
    BICYCLE = 4
    PEDESTRIAN = 5
    MOTORBIKE = 6
    CONE = 7
    BARRIER = 8
    DOOR = 9
    DEBRIS = 10
    ANIMAL = 11
    OFFICER = 12
    FLAGGER = 13
    SIGN = 14


PEOPLE = (AgentKind.PEDESTRIAN, AgentKind.OFFICER, AgentKind.FLAGGER)
THINGS = (AgentKind.CONE, AgentKind.BARRIER, AgentKind.DOOR, AgentKind.DEBRIS, AgentKind.SIGN)
"""What lies or stands on the road and goes nowhere."""


class Lights(IntFlag):
    """Lamps of an agent that are on. Of who directs traffic: the gesture. Of a sign: what it says."""

    BRAKE = 1
    LEFT = 2
    RIGHT = 4
    BLUE = 8
    STOP = 16
    """A palm held up, or a paddle that says STOP."""
    GO = 32
    """A sweep of the arm, or a paddle that says SLOW."""
    MIRRORED = 4096
    """No lamp: the body is a mirror image (which arm is up, which leg is ahead)."""


HAZARD = Lights.LEFT | Lights.RIGHT
"""Both indicators: somebody who has broken down."""


class SignalState(IntEnum):
    """Colour of one signal head."""

    RED = 0
    AMBER = 1
    GREEN = 2
    RED_AMBER = 3
    DARK = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Ground truth at one moment, in the map frame (SUMO's x east, y north). Never part of an observation."""

    time_s: float
    ego: Float[np.ndarray, " 6"]
    """Rear axle x, y, yaw, speed, yaw rate, steering in [-1, 1]."""
    agents: Float32[np.ndarray, "M 9"]
    """Centre x, y, yaw, length, width, height, vx, vy, steering-free yaw rate (0 if unknown)."""
    agent_kind: Int[np.ndarray, " M"]
    agent_lights: Int[np.ndarray, " M"]
    agent_key: Int[np.ndarray, " M"]
    """A number that stays with an agent: picks its colour, follows it through time."""
    signals: Int[np.ndarray, " S"]
    """SignalState of every head of RoadMap.signals, in that order."""


class Event(IntFlag):
    """What happened in one step, judged from geometry and SUMO's state."""

    NONE = 0
    COLLISION_PERSON = 1
    COLLISION_VEHICLE = 2
    COLLISION_STATIC = 4
    AT_FAULT = 8
    OFFROAD = 16
    RED_LIGHT = 32
    STOP_LINE = 64
    WRONG_WAY = 128
    TIMEOUT = 256
    ARRIVED = 512
    WRONG_BRANCH = 1024


PLAN_DISTANCES = (3.0, 6.0, 9.0, 12.0, 16.0, 20.0, 26.0, 32.0)
"""Arc lengths in metres ahead of the rear axle at which the demonstrator's path is recorded."""

AFFORDANCES = (
    "red_light",
    "green_light",
    "stop_line",
    "junction",
    "leader",
    "closing",
    "crossing",
    "person_crossing",
    "person",
    "yield",
)
"""What an act hangs on, each in [0, 1]; `world.sight` says how they are measured."""


@dataclass(slots=True, kw_only=True)
class Episode:
    """Recorded steps from reset to end: a demonstration if an expert drove, a rollout if we did.

    All columns have T rows. Step t holds what was observed at t, what was decided on it, and the events of
    the motion from t to t + dt. `expert_*` are the expert's labels at the state reached, whoever drove.
    """

    scenario: str
    seed: int
    driver: str
    dt: float
    map_id: str
    weather: Weather
    rig: str
    instructions: list[InstructionRecord]
    time_s: Float[np.ndarray, " T"]
    pose: Float[np.ndarray, "T 3"]
    """Rear axle x, y, yaw in the map frame."""
    motion: Float32[np.ndarray, "T 5"]
    """Speed, yaw rate, longitudinal acceleration, lateral acceleration, steering [-1, 1]."""
    instruction_index: Int[np.ndarray, " T"]
    """Row of `instructions` in force."""
    act: Float32[np.ndarray, "T F 3"]
    """The chunk the driver chose (the expert's own, when it drove)."""
    reason: Int[np.ndarray, "T 3"]
    """The driver's decision, cause, relation; -1 where it gave none."""
    actuation: Float32[np.ndarray, "T 3"]
    """Sent to the car (with a recovery disturbance, if one was injected)."""
    disturbed: Bool[np.ndarray, " T"]
    verdict: Int[np.ndarray, " T"]
    verdict_why: list[str]
    expert_act: Float32[np.ndarray, "T 3"]
    expert_reason: Int[np.ndarray, "T 3"]
    expert_plan: Float32[np.ndarray, "T P 2"]
    """Expert's path at PLAN_DISTANCES, ego frame."""
    expert_speed: Float32[np.ndarray, " T"]
    """Speed in m/s the expert wants one second ahead."""
    affordances: Float32[np.ndarray, "T A"]
    """In the order of AFFORDANCES, as the expert sees them."""
    events: Int[np.ndarray, " T"]
    """Event flags."""
    route_completion: Float32[np.ndarray, " T"]
    lane_offset: Float32[np.ndarray, " T"]
    """Signed distance in metres from the nearest lane's centre, positive left; NaN inside junctions."""
    time_to_collision: Float32[np.ndarray, " T"]
    """Seconds at constant velocities; inf when none."""
    ended: str
    """arrived, collision, offroad, wrong_branch, timeout, crashed (the software) or aborted."""
    ego_observed: Float32[np.ndarray, "T 7"]
    edge: EdgeRecord | None = None
    """None in nominal scenes."""
    faults: tuple[FaultConfig, ...] = ()
    """What was wrong with the sensors: truth, never part of an observation."""
    exploration: Exploration | None = None
    """How the driver drew what it did; None where it did what it held best."""
    log_prob: Float32[np.ndarray, " T"] | None = None
    """Of the drawn reason and driven triple, under the network that drove; NaN where nothing was drawn."""
    passed: Float32[np.ndarray, " T"] | None = None
    """Junctions passed since the sentence, as the exploring driver counted them."""
    cameras: dict[str, UInt8[np.ndarray, "T H W 3"]] = field(default_factory=dict)
    lidar: Float32[np.ndarray, "T beams columns 2"] | None = None
    radar: Float32[np.ndarray, "T detections 4"] | None = None
    radar_valid: Bool[np.ndarray, "T detections"] | None = None
    snapshots: list[Snapshot] = field(default_factory=list)
    """Ground truth for replays; kept in memory and in a drive's folder, never in a training set."""

    def __len__(self) -> int:
        """Return T."""
        return len(self.time_s)
