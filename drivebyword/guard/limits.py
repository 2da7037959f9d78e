"""What an actuation may be, whatever the scene: ranges, steering rate, lateral acceleration and jerk.

A wish and what was sent before in, the nearest allowed actuation and the names of the limits it met out.
The lateral limits are those of ISO 11270 for lane keeping assistance, as commaai/opendbc enforces them
(3.0 m/s2; the jerk limit here is the standard's own 5.0 m/s3, opendbc's 3.6 is for a hand on the wheel).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import atan, tan

from drivebyword.core.kinematics import CarConfig
from drivebyword.core.records import Actuation


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    """Bounds on what is sent to the car."""

    lateral_accel: float = 3.0
    """m/s2 (ISO 11270)."""
    lateral_jerk: float = 5.0
    """m/s3 (ISO 11270)."""
    tolerance: float = 1e-3
    """Smaller changes are rounding and go unreported."""


def steering_for(lateral_accel: float, speed: float, car: CarConfig) -> float:
    """Return the steering in [-1, 1] whose steady turn at `speed` has this lateral acceleration."""
    curvature = lateral_accel / max(speed * speed, 1e-6)
    return max(-1.0, min(1.0, atan(curvature * car.wheelbase) / car.steer_max))


def lateral_accel_of(steering: float, speed: float, car: CarConfig) -> float:
    """Return the lateral acceleration of a steady turn in m/s2, positive left."""
    return speed * speed * tan(steering * car.steer_max) / car.wheelbase


def limit(
    wish: Actuation, previous_steering: float, speed: float, dt: float, car: CarConfig, config: LimitsConfig
) -> tuple[Actuation, tuple[str, ...]]:
    """Return the nearest allowed actuation to a finite wish, and which limits changed it.

    `previous_steering` was sent one decision, `dt` seconds, earlier; `speed` is measured.
    """
    met: list[str] = []

    def bound(value: float, low: float, high: float, name: str) -> float:
        inside = min(max(value, low), high)
        if abs(inside - value) > config.tolerance and name not in met:
            met.append(name)
        return inside

    throttle = bound(wish.throttle, 0.0, 1.0, "range")
    brake = bound(wish.brake, 0.0, 1.0, "range")
    steering = bound(wish.steering, -1.0, 1.0, "range")
    if brake > 0.0:
        throttle = bound(throttle, 0.0, 0.0, "throttle and brake")
    # The lateral acceleration bound always holds; the others yield to it.
    most = steering_for(config.lateral_accel, speed, car)
    turn = car.steer_rate_max * dt / car.steer_max
    steering = bound(
        steering, min(previous_steering - turn, most), max(previous_steering + turn, -most), "steering rate"
    )
    before, step = lateral_accel_of(previous_steering, speed, car), config.lateral_jerk * dt
    low, high = steering_for(before - step, speed, car), steering_for(before + step, speed, car)
    steering = bound(steering, min(low, most), max(high, -most), "lateral jerk")
    steering = bound(steering, -most, most, "lateral acceleration")
    # A curve too fast to be taken is also a reason not to push.
    if "lateral acceleration" in met:
        throttle = bound(throttle, 0.0, 0.0, "lateral acceleration")
    return Actuation(steering, throttle, brake), tuple(met)
