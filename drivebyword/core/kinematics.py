"""The ego's body: a dynamic bicycle with steering-rate, throttle and brake lag.

Actuation in, motion out. Lateral dynamics are the linear single-track model (Rajamani, Vehicle Dynamics
and Control, 2nd ed., ch. 2), blended into the kinematic one below 5 m/s where tyre slip angles are
ill-defined. Numbers describe a mid-size hatchback.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import atan, cos, exp, sin, tan

import numpy as np
from jaxtyping import Float


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

    @property
    def front(self) -> float:
        """Metres from the rear axle to the front bumper."""
        return self.length - self.rear_overhang


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


def advance(
    state: CarState, actuation: Float[np.ndarray, " 3"], dt: float, car: CarConfig, substep: float = 0.02
) -> CarState:
    """Move the car by `dt` seconds under one held actuation (steering, throttle, brake), already in range."""
    s = CarState(*(getattr(state, f) for f in CarState.__slots__))
    want_steer = float(actuation[0]) * car.steer_max
    n = max(1, round(dt / substep))
    h = dt / n
    keep_throttle, keep_brake = exp(-h / car.throttle_lag), exp(-h / car.brake_lag)
    rear = car.wheelbase - car.front_axle_to_mass
    for _ in range(n):
        s.steer += min(max(want_steer - s.steer, -car.steer_rate_max * h), car.steer_rate_max * h)
        s.throttle = float(actuation[1]) + (s.throttle - float(actuation[1])) * keep_throttle
        s.brake = float(actuation[2]) + (s.brake - float(actuation[2])) * keep_brake
        push = s.throttle * car.throttle_accel * max(0.0, 1.0 - s.speed / car.top_speed)
        drag = (car.rolling + car.drag * s.speed * s.speed) if s.speed > 0 else 0.0
        grip = car.friction * 9.81
        accel = max(-grip, min(grip, push - s.brake * car.brake_decel - drag))
        before = s.speed
        s.speed = max(0.0, s.speed + accel * h)
        s.accel = (s.speed - before) / h
        v = s.speed
        kinematic = v * tan(s.steer) / car.wheelbase
        if v < 3.0:
            s.yaw_rate, s.lateral_speed = kinematic, 0.0
        else:
            # Semi-implicit: both lateral states decay much faster than h resolves at low speed.
            cf, cr, a, b = car.cornering_front, car.cornering_rear, car.front_axle_to_mass, rear
            slip_f = atan((s.lateral_speed + a * s.yaw_rate) / v) - s.steer
            slip_r = atan((s.lateral_speed - b * s.yaw_rate) / v)
            limit = car.friction * car.mass * 9.81 / 2
            force_f = min(max(-cf * slip_f, -limit), limit)
            force_r = min(max(-cr * slip_r, -limit), limit)
            damp_y = 1.0 + h * (cf + cr) / (car.mass * v)
            damp_r = 1.0 + h * (a * a * cf + b * b * cr) / (car.yaw_inertia * v)
            s.lateral_speed += h * ((force_f + force_r) / car.mass - v * s.yaw_rate) / damp_y
            s.yaw_rate += h * (a * force_f - b * force_r) / car.yaw_inertia / damp_r
            blend = min(1.0, (v - 3.0) / 2.0)
            s.yaw_rate = blend * s.yaw_rate + (1 - blend) * kinematic
            s.lateral_speed *= blend
        # The rear axle slides by the lateral speed at the mass point less the yaw about it.
        slide = s.lateral_speed - rear * s.yaw_rate if v >= 3.0 else 0.0
        slide *= min(1.0, max(0.0, (v - 3.0) / 2.0))
        mid = s.yaw + 0.5 * s.yaw_rate * h
        s.x += (v * cos(mid) - slide * sin(mid)) * h
        s.y += (v * sin(mid) + slide * cos(mid)) * h
        s.yaw += s.yaw_rate * h
    return s
