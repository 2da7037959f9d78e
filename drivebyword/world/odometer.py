"""What the ego measures about itself: true motion in, the noisy `ego` vector of an observation out.

From moment to moment (deviations of Gaussian noise): speed 0.03 m/s, yaw rate 0.003 rad/s, acceleration 0.05 m/s2, trip
distance 1 % of each step, trip heading 0.0005 rad a step. With an OdometryConfig also for a whole scene: wheels of a
circumference other than believed scale speed and distance (Borenstein and Feng, "Measurement and correction of
systematic odometry errors in mobile robots", 1996), and the gyroscope has a bias that wanders (IEEE Std 952).
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float32

from drivebyword.core.kinematics import CarConfig, CarState
from drivebyword.core.rig import OdometryConfig

STANDING = 0.1
"""m/s below which the wheels count as still."""


class Odometer:
    """A wheel, a gyroscope and a clock, with trip meters that start anew when a sentence is typed."""

    def __init__(self, car: CarConfig, seed: int, dt: float, config: OdometryConfig | None = None) -> None:
        self.car, self.dt, self.config = car, dt, config
        self._slow_rng = np.random.default_rng([seed, 71])
        scale, bias = self._slow_rng.normal(size=2)
        self._scale = 1.0 + config.wheel_scale * scale if config is not None else 1.0
        self._bias = config.gyro_bias * bias if config is not None else 0.0
        self.accel = 0.0
        """True mean acceleration over the last step, m/s2."""
        self._rng = np.random.default_rng([seed, 29])
        self._noise = np.zeros(5)
        self._trip = np.zeros(3)

    def new_trip(self) -> None:
        """Set the trip meters to zero."""
        self._trip = np.zeros(3)

    def advance(self, before: CarState, state: CarState) -> None:
        """Measure one step of motion."""
        self._noise = self._rng.normal(size=5)
        self.accel = (state.speed - before.speed) / self.dt
        turned = (state.yaw - before.yaw + math.pi) % (2 * math.pi) - math.pi
        driven = 0.5 * (state.speed + before.speed) * self.dt
        if self.config is not None:
            self._bias += self.config.gyro_walk * math.sqrt(self.dt) * float(self._slow_rng.normal())
            driven, turned = self._scale * driven, turned + self._bias * self.dt
        self._trip[0] += driven * (1.0 + 0.01 * self._noise[0])
        self._trip[1] += turned + 0.0005 * self._noise[1] if driven > 0 else 0.0
        self._trip[2] += self.dt if state.speed < STANDING else 0.0

    def measure(self, state: CarState) -> Float32[np.ndarray, " 7"]:
        """Return the ego vector, in the order of EGO_FIELDS."""
        speed = max(0.0, self._scale * state.speed + 0.03 * self._noise[2]) if state.speed > 0.05 else 0.0
        yaw_rate = state.yaw_rate + self._bias + 0.003 * self._noise[3]
        accel = self.accel + 0.05 * self._noise[4]
        return np.array([speed, yaw_rate, state.steer / self.car.steer_max, accel, *self._trip], np.float32)
