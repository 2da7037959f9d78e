"""The last word before the actuators: act and observation in, safe actuation and verdict out.

Deterministic, free of torch and of learned parts. In order: is the input sane (finite, fresh, alive)? If
not, stop. Is something in the way? If so, brake. Is the actuation within its limits? If not, clip it.
The guard only ever slows the car down or steers it less; it never adds throttle.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from drivebyword.core.kinematics import CarConfig
from drivebyword.core.records import Act, Actuation, Observation, RigConfig, Verdict, VerdictKind
from drivebyword.guard.collision import CollisionConfig, first_hit, roll_out
from drivebyword.guard.limits import LimitsConfig, limit
from drivebyword.guard.tracking import Tracker, TrackingConfig, cluster, lidar_points, radar_points


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardConfig:
    """What the guard tolerates."""

    limits: LimitsConfig = field(default_factory=LimitsConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    collision: CollisionConfig = field(default_factory=CollisionConfig)
    dt: float = 0.2
    """Decision period in seconds."""
    stale_s: float = 0.5
    """An older observation counts as none (Autoware's heartbeat limit)."""
    frozen: int = 3
    """Equal readings of a sensor in a row, while driving, that count as frozen."""
    comfortable_brake: float = 0.35
    """About 2.8 m/s2: for losses in which nothing is known to be ahead."""
    blind_s: float = 0.6
    """Time without any ranging sensor after which the car stops."""


class Guard:
    """Checks every act on its way to the car."""

    def __init__(self, config: GuardConfig, rig: RigConfig, car: CarConfig) -> None:
        self.config, self.rig, self.car = config, rig, car
        self.tracker = Tracker(config.tracking)
        self.reset()

    def reset(self) -> None:
        """Begin a new episode."""
        self.tracker.reset()
        self._time_s: float | None = None
        self._steering: float | None = None
        self._last: dict[str, np.ndarray] = {}
        self._equal: dict[str, int] = {}
        self._blind_s = 0.0
        self._braking = False

    def check(self, act: Act, observation: Observation, now_s: float | None = None) -> tuple[Actuation, Verdict]:
        """Return what may be sent to the car, and why.

        `now_s` is the time of the decision on the observation's clock; None: the observation was just made.
        """
        broken = self._unusable(observation, now_s)
        if broken:
            return self._blind_stop(broken)
        dt = self.config.dt if self._time_s is None else observation.time_s - self._time_s
        self._time_s = float(observation.time_s)
        speed, yaw_rate, measured = (float(v) for v in observation.ego[:3])
        if self._steering is None:
            self._steering = min(max(measured, -1.0), 1.0)
        self._perceive(observation, speed, yaw_rate, dt)
        chunk = np.asarray(act.steps, np.float64)
        why = self._dead_sensor(observation, speed, dt)
        if not np.isfinite(chunk).all():
            why = "the act is not finite"
        if why:
            chunk = np.array([[self._steering, 0.0, self.config.comfortable_brake]])
        wish = Actuation(*(float(v) for v in chunk[0]))
        allowed, met = limit(wish, self._steering, speed, self.config.dt, self.car, self.config.limits)
        chunk = np.clip(chunk, (-1.0, 0.0, 0.0), 1.0)
        chunk[0] = allowed.as_array()
        actuation, verdict = self._avoid(chunk, allowed, met, speed, measured)
        self._steering = actuation.steering
        return actuation, Verdict(VerdictKind.REPLACED, why) if why else verdict

    def _unusable(self, observation: Observation, now_s: float | None) -> str:
        """Name the reason why nothing can be computed from an observation."""
        if not (np.isfinite(observation.ego).all() and np.isfinite(observation.time_s)):
            return "the ego's own measurements are not finite"
        if self._time_s is not None and observation.time_s <= self._time_s:
            return "the observation is not newer than the last"
        if now_s is not None and not now_s - observation.time_s <= self.config.stale_s:
            return f"the observation is older than {self.config.stale_s} s"
        return ""

    def _blind_stop(self, why: str) -> tuple[Actuation, Verdict]:
        """Stop without knowing anything: brake evenly, hold the steering last sent."""
        return Actuation(self._steering or 0.0, 0.0, self.config.comfortable_brake), Verdict(VerdictKind.REPLACED, why)

    def _perceive(self, observation: Observation, speed: float, yaw_rate: float, dt: float) -> None:
        """Update the tracks from whichever ranging sensors answered."""
        settings, echoes = self.config.tracking, np.zeros((0, 5))
        if self.rig.radar is not None and observation.radar is not None and observation.radar_valid is not None:
            valid = observation.radar_valid & np.isfinite(observation.radar).all(1)
            echoes = radar_points(observation.radar, valid, self.rig.radar, speed, yaw_rate, settings)
        seeing = self.rig.lidar is not None and observation.lidar is not None
        if self.rig.lidar is not None and observation.lidar is not None:
            bodies = cluster(lidar_points(np.nan_to_num(observation.lidar), self.rig.lidar, settings))
        else:
            bodies = cluster(echoes[np.argsort(-np.arctan2(echoes[:, 1], echoes[:, 0])), :2])
        if dt > self.config.stale_s:
            self.tracker.reset()
        self.tracker.update(bodies, echoes, speed, yaw_rate, dt, independent=seeing)

    def _dead_sensor(self, observation: Observation, speed: float, dt: float) -> str:
        """Name the reason to stop when a sensor repeats itself or every ranging sensor is gone."""
        readings: dict[str, np.ndarray] = dict(observation.cameras)
        if observation.lidar is not None:
            readings["lidar"] = observation.lidar
        if observation.radar is not None and observation.radar_valid is not None and observation.radar_valid.any():
            readings["radar"] = observation.radar
        for name, reading in readings.items():
            if name in self._last and np.array_equal(reading, self._last[name]):
                # A standing car may see the same picture twice; only driving tells.
                self._equal[name] = self._equal.get(name, 0) + (speed > 1.0)
            else:
                self._equal[name] = 0
            self._last[name] = reading
        frozen = [name for name in readings if self._equal[name] >= self.config.frozen]
        if frozen:
            return f"{frozen[0]} is frozen"
        mounted = self.rig.lidar is not None or self.rig.radar is not None
        blind = (observation.lidar is None or not (observation.lidar[:, :, 0] > 0).any()) and observation.radar is None
        self._blind_s = self._blind_s + dt if mounted and blind else 0.0
        return "no ranging sensor answers" if self._blind_s > self.config.blind_s else ""

    def _avoid(
        self, chunk: Float[np.ndarray, "F 3"], allowed: Actuation, met: tuple[str, ...], speed: float, steering: float
    ) -> tuple[Actuation, Verdict]:
        """Brake when the act, followed by the brake, would still hit something."""
        settings = self.config.collision
        gap = settings.gap + settings.gap_s * speed + (settings.hysteresis if self._braking else 0.0)
        hit = self._would_hit(chunk, speed, steering, settings.brake_decel, gap)
        self._braking = bool(hit)
        if hit:
            return replace(allowed, throttle=0.0, brake=1.0), Verdict(VerdictKind.REPLACED, hit)
        if allowed.throttle > 0.0:
            hit = self._would_hit(chunk, speed, steering, settings.early_decel, gap)
            if hit:
                allowed, met = replace(allowed, throttle=0.0), (*met, hit)
        return allowed, Verdict(VerdictKind.CLIPPED, ", ".join(met)) if met else Verdict(VerdictKind.ACCEPTED)

    def _would_hit(
        self, chunk: Float[np.ndarray, "F 3"], speed: float, steering: float, decel: float, gap: float
    ) -> str:
        """Describe what this act followed by this brake would touch, or return nothing."""
        config = self.config
        way = roll_out(speed, steering, chunk, decel, config.dt, config.dt, self.car)
        track = first_hit(self.tracker.tracks, way, self.car, config.collision, gap)
        if track is None:
            return ""
        x, y = track.points[np.argmin(np.hypot(*track.points.T))]
        return f"obstacle {x:.0f} m ahead, {y:+.1f} m left, moving {np.hypot(*track.velocity):.0f} m/s"
