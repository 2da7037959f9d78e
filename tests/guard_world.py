"""A flat world of moving boxes for the guard's tests: its own ray caster, so that nothing is shared with the guard."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from drivebyword.core.kinematics import CarConfig, CarState, advance
from drivebyword.core.records import Act, Observation, Verdict
from drivebyword.core.rig import LidarConfig, RadarConfig, RigConfig
from drivebyword.guard.guard import Guard, GuardConfig

DT = 0.2
CAR = CarConfig()
FRONT = CAR.length - CAR.rear_overhang
LIDAR = LidarConfig(columns=128, beams=16)
RADAR = RadarConfig(columns=64, rows=3, detections=12)
RIG = RigConfig(name="test", cameras=(), lidar=LIDAR, radar=RADAR)


@dataclass(frozen=True)
class Box:
    """A body: centre, heading, size, speed along its heading, and when it starts to move or to brake."""

    x: float
    y: float
    yaw: float = 0.0
    length: float = 4.5
    width: float = 1.8
    height: float = 1.5
    speed: float = 0.0
    starts: float = 0.0
    brakes_at: float = 1e9
    decel: float = 6.0

    def moved(self, time_s: float, dt: float) -> Box:
        """Return the box `dt` later."""
        if time_s < self.starts:
            return self
        speed = max(0.0, self.speed - (self.decel * dt if time_s >= self.brakes_at else 0.0))
        step = (speed + self.speed) / 2 * dt
        return replace(self, x=self.x + step * np.cos(self.yaw), y=self.y + step * np.sin(self.yaw), speed=speed)

    def velocity(self, time_s: float) -> np.ndarray:
        """Return vx, vy."""
        return (time_s >= self.starts) * self.speed * np.array([np.cos(self.yaw), np.sin(self.yaw)])


def walker(x: float, y: float, speed: float = 1.4, yaw: float = -np.pi / 2, starts: float = 0.0) -> Box:
    """Return a person; by default one who crosses from the left."""
    return Box(x, y, yaw, 0.45, 0.5, 1.75, speed, starts)


def cast(box: Box, origin: np.ndarray, azimuth: np.ndarray) -> np.ndarray:
    """Return the flat distance from `origin` to a box along each azimuth, inf where missed."""
    cos, sin = np.cos(box.yaw), np.sin(box.yaw)
    d = origin - np.array([box.x, box.y])
    local = np.array([d[0] * cos + d[1] * sin, d[1] * cos - d[0] * sin])
    ray = np.stack([np.cos(azimuth - box.yaw), np.sin(azimuth - box.yaw)])
    ray = np.where(np.abs(ray) < 1e-9, 1e-9, ray)
    half = np.array([box.length, box.width])[:, None] / 2
    one, two = (-half - local[:, None]) / ray, (half - local[:, None]) / ray
    enter, leave = np.minimum(one, two).max(0), np.maximum(one, two).min(0)
    return np.where((enter < leave) & (enter > 0), enter, np.inf)


class World:
    """Ego and boxes; makes observations and judges touches."""

    def __init__(self, boxes: list[Box], speed: float, seed: int = 0, yaw: float = 0.0) -> None:
        self.boxes, self.time_s = boxes, 0.0
        self.ego = CarState(0.0, 0.0, yaw, speed=speed)
        self.rng = np.random.default_rng(seed)

    def lidar(self) -> np.ndarray:
        """Return ranges and intensities, with 3 cm of noise."""
        azimuth = np.pi - (np.arange(LIDAR.columns) + 0.5) * 2 * np.pi / LIDAR.columns
        elevation = np.radians(np.linspace(LIDAR.elevation_min_deg, LIDAR.elevation_max_deg, LIDAR.beams))[:, None]
        origin = self._mount(LIDAR.x)
        flat = np.where(elevation < 0, LIDAR.z / np.tan(np.maximum(-elevation, 1e-6)), np.inf)
        flat = np.broadcast_to(flat, (LIDAR.beams, LIDAR.columns)).copy()
        for box in self.boxes:
            at = cast(box, origin, azimuth + self.ego.yaw)[None]
            with np.errstate(invalid="ignore"):
                height = LIDAR.z + at * np.tan(elevation)
            flat = np.where((at < flat) & (height < box.height) & (height > 0), at, flat)
        distance = flat / np.cos(elevation)
        distance += self.rng.normal(0, 0.03, distance.shape)
        distance[~(distance < LIDAR.range_max)] = 0.0
        return np.stack([distance, np.full_like(distance, 0.5)], axis=2).astype(np.float32)

    def radar(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the nearest detections, one per column that hits a box, and which rows are real."""
        half = np.radians(RADAR.fov_deg / 2)
        azimuth = half - (np.arange(RADAR.columns) + 0.5) * 2 * half / RADAR.columns
        origin = self._mount(RADAR.x)
        ahead = np.array([np.cos(self.ego.yaw), np.sin(self.ego.yaw)])
        own = self.ego.speed * ahead + self.ego.yaw_rate * RADAR.x * np.array([-ahead[1], ahead[0]])
        found = []
        for box in self.boxes:
            at = cast(box, origin, azimuth + self.ego.yaw)
            for k in np.flatnonzero(at < RADAR.range_max):
                away = np.array([np.cos(azimuth[k] + self.ego.yaw), np.sin(azimuth[k] + self.ego.yaw)])
                rate = float((box.velocity(self.time_s) - own) @ away)
                found.append((at[k] + self.rng.normal(0, 0.1), azimuth[k], rate + self.rng.normal(0, 0.1), 10.0))
        found = sorted(found)[: RADAR.detections]
        table, valid = np.zeros((RADAR.detections, 4), np.float32), np.zeros(RADAR.detections, bool)
        if found:
            table[: len(found)] = found
            valid[: len(found)] = True
        return table, valid

    def _mount(self, x: float) -> np.ndarray:
        return np.array([self.ego.x + x * np.cos(self.ego.yaw), self.ego.y + x * np.sin(self.ego.yaw)])

    def observe(self, without: tuple[str, ...] = ()) -> Observation:
        """Return what the car senses now."""
        radar, valid = self.radar()
        e = self.ego
        ego = np.array([e.speed, e.yaw_rate, e.steer / CAR.steer_max, e.accel, 0.0, 0.0, 0.0], np.float32)
        return Observation(
            time_s=self.time_s,
            cameras={},
            lidar=None if "lidar" in without else self.lidar(),
            radar=None if "radar" in without else radar,
            radar_valid=None if "radar" in without else valid,
            ego=ego,
            instruction="go",
        )

    def step(self, actuation: np.ndarray) -> None:
        """Move everything by one decision period."""
        self.ego = advance(self.ego, actuation, DT, CAR)
        self.boxes = [box.moved(self.time_s, DT) for box in self.boxes]
        self.time_s += DT

    def gap(self) -> float:
        """Return the least distance between the ego's body and any box (0 when they touch), sampled."""
        if not self.boxes:
            return np.inf
        xs = np.linspace(-CAR.rear_overhang, FRONT, 23)
        ys = np.linspace(-CAR.width / 2, CAR.width / 2, 9)
        px, py = (g.ravel() for g in np.meshgrid(xs, ys))
        cos, sin = np.cos(self.ego.yaw), np.sin(self.ego.yaw)
        mx, my = self.ego.x + px * cos - py * sin, self.ego.y + px * sin + py * cos
        best = np.inf
        for box in self.boxes:
            c, s = np.cos(box.yaw), np.sin(box.yaw)
            lx, ly = (mx - box.x) * c + (my - box.y) * s, (my - box.y) * c - (mx - box.x) * s
            out_x, out_y = np.maximum(np.abs(lx) - box.length / 2, 0), np.maximum(np.abs(ly) - box.width / 2, 0)
            best = min(best, float(np.hypot(out_x, out_y).min()))
        return best


@dataclass
class Ride:
    """What came of a ride."""

    verdicts: list[Verdict]
    gap: float
    impact: float
    """Ego's speed when it first touched something, 0 if it never did."""
    world: World

    def count(self, kind: int) -> int:
        """Return how many verdicts were of a kind."""
        return sum(v.kind == kind for v in self.verdicts)


def hold(speed: float, world: World, steering: float = 0.0) -> Act:
    """Return an act that holds a speed."""
    push = float(np.clip(0.5 * (speed - world.ego.speed) + 0.04, -1, 1))
    return Act(np.tile([steering, max(push, 0.0), max(-push, 0.0)], (4, 1)))


def ride(
    boxes: list[Box],
    speed: float,
    seconds: float = 6.0,
    steering: float = 0.0,
    without: tuple[str, ...] = (),
    seed: int = 0,
    full_throttle: bool = False,
    config: GuardConfig | None = None,
) -> Ride:
    """Drive a policy that sees nothing, under the guard."""
    world = World(boxes, speed, seed)
    if steering:
        world.ego.steer = steering * CAR.steer_max
        world.ego.yaw_rate = speed * np.tan(world.ego.steer) / CAR.wheelbase
    guard = Guard(config or GuardConfig(), RIG, CAR)
    verdicts, gap, impact = [], np.inf, 0.0
    for _ in range(round(seconds / DT)):
        act = Act(np.tile([steering, 1.0, 0.0], (4, 1))) if full_throttle else hold(speed, world, steering)
        actuation, verdict = guard.check(act, world.observe(without))
        verdicts.append(verdict)
        before = world.ego.speed
        world.step(actuation.as_array())
        now = world.gap()
        if now <= 0.0 < gap:
            impact = before
        gap = min(gap, now)
    return Ride(verdicts, gap, impact, world)
