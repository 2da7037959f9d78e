"""The last word before the actuators: act and observation in, safe actuation and verdict out.

No torch, nothing learned. Is the input sane (finite, fresh, alive)? If not, stop. Is the actuation within its
limits? If not, clip it. Is something in the way? If so, brake. It only ever slows down or steers less.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from drivebyword.core.kinematics import CarConfig
from drivebyword.core.records import Act, Actuation, Observation, Verdict, VerdictKind
from drivebyword.core.rig import RigConfig
from drivebyword.guard.collision import CollisionConfig, first_hit, roll_out
from drivebyword.guard.intake import unsound_ego
from drivebyword.guard.limits import LimitsConfig, limit
from drivebyword.guard.tracking import Tracker, TrackingConfig, lidar_points, radar_points


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardConfig:
    """What the guard tolerates."""

    limits: LimitsConfig = field(default_factory=LimitsConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    collision: CollisionConfig = field(default_factory=CollisionConfig)
    dt: float = 0.2  # decision period in seconds
    stale_s: float = 0.5  # an older observation counts as none (Autoware's heartbeat limit)
    frozen: int = 3  # equal readings of a sensor in a row, while driving, that count as frozen
    comfortable_brake: float = 0.35  # about 2.8 m/s2: for losses in which nothing is known to be ahead
    blind_s: float = 0.6  # time without any camera, or without any ranging sensor, after which the car stops


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
        self._steering, self._braking = 0.0, False
        self._blind_s: dict[str, float] = {}
        self._last: dict[str, np.ndarray] = {}
        self._equal: dict[str, int] = {}

    def check(self, act: Act, observation: Observation, now_s: float | None = None) -> tuple[Actuation, Verdict]:
        """Return what may be sent to the car, and why; `now_s` (None: not known) is on the observation's clock."""
        config, why = self.config, self._unusable(observation, now_s)
        if why:  # Nothing is known: brake evenly, hold the steering last sent.
            return Actuation(self._steering, 0.0, config.comfortable_brake), Verdict(VerdictKind.REPLACED, why)
        speed, yaw_rate, measured = (float(v) for v in observation.ego[:3])
        if self._time_s is None:
            self._time_s, self._steering = observation.time_s - config.dt, min(max(measured, -1.0), 1.0)
        dt, self._time_s = observation.time_s - self._time_s, float(observation.time_s)
        self._perceive(observation, (speed, yaw_rate), dt)
        chunk, why = np.asarray(act.steps, np.float64), self._dead_sensor(observation, speed, dt)
        why = why if np.isfinite(chunk).all() else "the act is not finite"
        if why:
            chunk = np.array([[self._steering, 0.0, config.comfortable_brake]])
        wish = Actuation(*(float(v) for v in chunk[0]))
        allowed, met = limit(wish, self._steering, speed, config.dt, self.car, config.limits)
        chunk = np.clip(chunk, (-1.0, 0.0, 0.0), 1.0)
        chunk[0] = allowed.as_array()
        actuation, verdict = self._avoid(chunk, allowed, met, speed, measured)
        self._steering = actuation.steering
        return actuation, Verdict(VerdictKind.REPLACED, why) if why else verdict

    def _unusable(self, observation: Observation, now_s: float | None) -> str:
        """Name the reason why nothing can be computed from an observation."""
        why = unsound_ego(observation)
        if why:
            return why
        if self._time_s is not None and observation.time_s <= self._time_s:
            return "the observation is not newer than the last"
        if now_s is not None and not now_s - observation.time_s <= self.config.stale_s:
            return f"the observation is older than {self.config.stale_s} s"
        if now_s is not None and observation.time_s > now_s + 0.5 * self.config.dt:
            return "the observation is from the future"
        return ""

    def _perceive(self, observation: Observation, motion: tuple[float, float], dt: float) -> None:
        """Update the tracks from whichever ranging sensors answered."""
        settings, points, echoes = self.config.tracking, None, np.zeros((0, 5))
        if self.rig.radar is not None and observation.radar is not None and observation.radar_valid is not None:
            rows = observation.radar[observation.radar_valid & np.isfinite(observation.radar).all(1)]
            echoes = radar_points(rows, self.rig.radar, *motion, settings.reach)
        if self.rig.lidar is not None and observation.lidar is not None:
            points = lidar_points(np.nan_to_num(observation.lidar), self.rig.lidar, settings)
        if dt > self.config.stale_s:
            self.tracker.reset()
        self.tracker.update(points, echoes, motion, dt)

    def _dead_sensor(self, observation: Observation, speed: float, dt: float) -> str:
        """Name the reason to stop when a sensor repeats itself, or every camera or every ranging sensor is gone."""
        heard = observation.radar if observation.radar_valid is not None and observation.radar_valid.any() else None
        for name, reading in {**observation.cameras, "lidar": observation.lidar, "radar": heard}.items():
            if reading is None:
                continue
            same = name in self._last and np.array_equal(reading, self._last[name])
            # A standing car may see the same picture twice; only driving tells.
            self._equal[name], self._last[name] = self._equal.get(name, 0) + (speed > 1.0) if same else 0, reading
            if self._equal[name] >= self.config.frozen:
                return f"{name} is frozen"
        mounted = self.rig.lidar is not None or self.rig.radar is not None
        silent = (observation.lidar is None or not (observation.lidar[:, :, 0] > 0).any()) and observation.radar is None
        lost = {"camera": bool(self.rig.cameras) and not observation.cameras, "ranging sensor": mounted and silent}
        self._blind_s = {name: self._blind_s.get(name, 0.0) + dt if gone else 0.0 for name, gone in lost.items()}
        return next((f"no {name} answers" for name, s in self._blind_s.items() if s > self.config.blind_s), "")

    def _avoid(
        self, chunk: Float[np.ndarray, "F 3"], allowed: Actuation, met: tuple[str, ...], speed: float, steering: float
    ) -> tuple[Actuation, Verdict]:
        """Brake when the act, followed by the brake, would still hit something; before that, forbid the throttle."""
        settings, tracker = self.config.collision, self.tracker
        gap = settings.gap + settings.gap_s * speed + (settings.hysteresis if self._braking else 0.0)
        self._braking = False
        for decel in (settings.brake_decel, settings.early_decel)[: 1 + (allowed.throttle > 0.0)]:
            way = roll_out(speed, steering, chunk, decel, self.config.dt, self.car)
            hit = first_hit(tracker, way, self.car, settings, gap)
            if hit is None:
                continue
            points, pace = tracker.points[tracker.owner == hit], np.hypot(*tracker.tracks["velocity"][hit])
            x, y = points[np.argmin(np.hypot(*points.T))]
            met = (*met, f"obstacle {x:.0f} m ahead, {y:+.1f} m left, moving {pace:.0f} m/s")
            self._braking = decel == settings.brake_decel
            if self._braking:
                return replace(allowed, throttle=0.0, brake=1.0), Verdict(VerdictKind.REPLACED, met[-1])
            allowed = replace(allowed, throttle=0.0)
        return allowed, Verdict(VerdictKind.CLIPPED, ", ".join(met)) if met else Verdict(VerdictKind.ACCEPTED)
