"""What the ego measures about itself: true motion in, the noisy `ego` vector of an observation out."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float32

from drivebyword.core.kinematics import CarConfig, CarState

STANDING = 0.1
"""m/s below which the wheels count as still."""


class Odometer:
    """A wheel, a gyroscope and a clock, with trip meters that start anew when a sentence is typed."""

    def __init__(self, car: CarConfig, seed: int, dt: float) -> None:
        self.car, self.dt = car, dt
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
        self._trip[0] += driven * (1.0 + 0.01 * self._noise[0])
        self._trip[1] += turned + 0.0005 * self._noise[1] if driven > 0 else 0.0
        self._trip[2] += self.dt if state.speed < STANDING else 0.0

    def measure(self, state: CarState) -> Float32[np.ndarray, " 7"]:
        """Return the ego vector, in the order of EGO_FIELDS."""
        speed = max(0.0, state.speed + 0.03 * self._noise[2]) if state.speed > 0.05 else 0.0
        yaw_rate = state.yaw_rate + 0.003 * self._noise[3]
        accel = self.accel + 0.05 * self._noise[4]
        return np.array([speed, yaw_rate, state.steer / self.car.steer_max, accel, *self._trip], np.float32)
