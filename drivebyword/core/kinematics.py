"""The ego's body: a dynamic bicycle with steering-rate, throttle and brake lag.

Actuation in, motion out. Lateral dynamics are the linear single-track model (Rajamani, Vehicle Dynamics
and Control, 2nd ed., ch. 2), blended into the kinematic one below 5 m/s where tyre slip angles are
ill-defined. Numbers describe a mid-size hatchback.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import atan, cos, exp, sin, tan
from operator import attrgetter
from typing import no_type_check

import numpy as np
from jaxtyping import Float
from numba import njit

from drivebyword.core.ranges import require_within


@dataclass(frozen=True, slots=True, kw_only=True)
class CarConfig:
    """Dimensions in metres, limits in SI."""

    length: float = 4.4
    width: float = 1.8
    height: float = 1.5
    wheelbase: float = 2.65
    rear_overhang: float = 0.85
    front_axle_to_mass: float = 1.15
    mass: float = 1450.0
    yaw_inertia: float = 2100.0
    cornering_front: float = 90_000.0
    cornering_rear: float = 100_000.0
    steer_max: float = 0.6
    """Road-wheel angle in radians at steering = 1."""
    steer_rate_max: float = 1.2
    """rad/s at the road wheels."""
    throttle_accel: float = 3.0
    """m/s2 at full throttle, from standstill; falls off with speed."""
    brake_decel: float = 8.0
    """m/s2 at full brake on a dry road."""
    throttle_lag: float = 0.2
    brake_lag: float = 0.1
    drag: float = 0.0004
    """m/s2 per (m/s)2."""
    rolling: float = 0.08
    """m/s2, also engine braking."""
    top_speed: float = 33.0
    friction: float = 0.9

    def __post_init__(self) -> None:
        """Refuse what is no car."""
        require_within(self, length=(1.0, 20.0), width=(0.5, 3.0), height=(0.5, 5.0), wheelbase=(0.5, 15.0))
        require_within(self, rear_overhang=(0.0, self.length - self.wheelbase))
        require_within(self, front_axle_to_mass=(0.05 * self.wheelbase, 0.95 * self.wheelbase))
        require_within(self, mass=(50.0, 1e5), yaw_inertia=(10.0, 1e6), cornering_front=(1e3, 1e7))
        require_within(self, cornering_rear=(1e3, 1e7), steer_max=(0.05, 1.4), steer_rate_max=(0.01, 20.0))
        require_within(self, throttle_accel=(0.1, 20.0), brake_decel=(0.1, 20.0), throttle_lag=(0.01, 5.0))
        require_within(self, brake_lag=(0.01, 5.0), drag=(0.0, 0.1), rolling=(0.0, 2.0), top_speed=(1.0, 100.0))
        require_within(self, friction=(0.02, 2.0))

    @property
    def front(self) -> float:
        """Metres from the rear axle to the front bumper."""
        return self.length - self.rear_overhang

    def on(self, grip: float) -> CarConfig:
        """Return the car on a road that leaves it this share of its friction."""
        return self if grip == 1.0 else replace(self, friction=grip * self.friction)


@dataclass(slots=True)
class CarState:
    """Rear axle pose in the map frame and the motion of the body."""

    x: float
    y: float
    yaw: float
    speed: float = 0.0
    yaw_rate: float = 0.0
    lateral_speed: float = 0.0
    steer: float = 0.0
    throttle: float = 0.0
    brake: float = 0.0
    accel: float = 0.0


_state_of, _body_of = attrgetter(*CarState.__slots__), attrgetter(*CarConfig.__slots__)


def advance(
    state: CarState, actuation: Float[np.ndarray, " 3"], dt: float, car: CarConfig, substep: float = 0.02
) -> CarState:
    """Move the car by `dt` seconds under one held actuation (steering, throttle, brake), already in range."""
    before, body = tuple(map(float, _state_of(state))), tuple(map(float, _body_of(car)))
    steering, throttle, brake = actuation.tolist()
    return CarState(*_advance(before, body, steering * car.steer_max, throttle, brake, dt, max(1, round(dt / substep))))


@njit(cache=True)
@no_type_check
def _advance(state, car, want_steer, want_throttle, want_brake, dt, substeps):  # type: ignore[no-untyped-def]
    """Take all substeps; `state` and `car` are the values of CarState and CarConfig, in the order of their fields."""
    x, y, yaw, speed, yaw_rate, lateral_speed, steer, throttle, brake, gained = state
    (_, _, _, wheelbase, _, front, mass, inertia, cf, cr, _, steer_rate_max, throttle_accel, brake_decel, throttle_lag,
     brake_lag, drag_2, rolling, top_speed, friction) = car  # fmt: skip
    h = dt / substeps
    keep_throttle, keep_brake = exp(-h / throttle_lag), exp(-h / brake_lag)
    rear = wheelbase - front
    for _ in range(substeps):
        steer += min(max(want_steer - steer, -steer_rate_max * h), steer_rate_max * h)
        throttle = want_throttle + (throttle - want_throttle) * keep_throttle
        brake = want_brake + (brake - want_brake) * keep_brake
        push = throttle * throttle_accel * max(0.0, 1.0 - speed / top_speed)
        drag = (rolling + drag_2 * speed * speed) if speed > 0 else 0.0
        grip = friction * 9.81
        accel = max(-grip, min(grip, push - brake * brake_decel - drag))
        before = speed
        speed = max(0.0, speed + accel * h)
        gained = (speed - before) / h
        v = speed
        kinematic = v * tan(steer) / wheelbase
        if v < 3.0:
            yaw_rate, lateral_speed = kinematic, 0.0
        else:
            # Semi-implicit: both lateral states decay much faster than h resolves at low speed.
            slip_f = atan((lateral_speed + front * yaw_rate) / v) - steer
            slip_r = atan((lateral_speed - rear * yaw_rate) / v)
            limit = friction * mass * 9.81 / 2
            force_f = min(max(-cf * slip_f, -limit), limit)
            force_r = min(max(-cr * slip_r, -limit), limit)
            damp_y = 1.0 + h * (cf + cr) / (mass * v)
            damp_r = 1.0 + h * (front * front * cf + rear * rear * cr) / (inertia * v)
            lateral_speed += h * ((force_f + force_r) / mass - v * yaw_rate) / damp_y
            yaw_rate += h * (front * force_f - rear * force_r) / inertia / damp_r
            blend = min(1.0, (v - 3.0) / 2.0)
            yaw_rate = blend * yaw_rate + (1 - blend) * kinematic
            lateral_speed *= blend
        # The rear axle slides by the lateral speed at the mass point less the yaw about it.
        slide = lateral_speed - rear * yaw_rate if v >= 3.0 else 0.0
        slide *= min(1.0, max(0.0, (v - 3.0) / 2.0))
        mid = yaw + 0.5 * yaw_rate * h
        x += (v * cos(mid) - slide * sin(mid)) * h
        y += (v * sin(mid) + slide * cos(mid)) * h
        yaw += yaw_rate * h
    return x, y, yaw, speed, yaw_rate, lateral_speed, steer, throttle, brake, gained
