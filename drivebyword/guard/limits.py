"""What an actuation may be, whatever the scene: ranges, steering rate, lateral acceleration and jerk.

A wish and what was sent before in, the nearest allowed actuation and the names of the limits it met out. The
lateral limits are those of ISO 11270 for lane keeping assistance (commaai/opendbc enforces 3.0 m/s2 too).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import atan, tan

from drivebyword.core.kinematics import CarConfig
from drivebyword.core.records import Actuation


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    """Bounds on what is sent to the car."""

    lateral_accel: float = 3.0  # m/s2 (ISO 11270)
    lateral_jerk: float = 5.0  # m/s3 (ISO 11270)
    tolerance: float = 1e-3  # smaller changes are rounding and go unreported


def steering_for(lateral_accel: float, speed: float, car: CarConfig) -> float:
    """Return the steering in [-1, 1] whose steady turn at `speed` has this lateral acceleration."""
    return max(-1.0, min(1.0, atan(lateral_accel / max(speed * speed, 1e-6) * car.wheelbase) / car.steer_max))


def lateral_accel_of(steering: float, speed: float, car: CarConfig) -> float:
    """Return the lateral acceleration of a steady turn in m/s2, positive left."""
    return speed * speed * tan(steering * car.steer_max) / car.wheelbase


def limit(
    wish: Actuation, previous_steering: float, speed: float, dt: float, car: CarConfig, config: LimitsConfig
) -> tuple[Actuation, tuple[str, ...]]:
    """Return the nearest allowed actuation to a finite wish and which limits changed it; last sent `dt` s ago."""
    met: list[str] = []

    def bound(value: float, low: float, high: float, name: str) -> float:
        inside = min(max(value, low), high)
        if abs(inside - value) > config.tolerance and name not in met:
            met.append(name)
        return inside

    throttle, brake = bound(wish.throttle, 0.0, 1.0, "range"), bound(wish.brake, 0.0, 1.0, "range")
    steering = bound(wish.steering, -1.0, 1.0, "range")
    throttle = bound(throttle, 0.0, 0.0 if brake > 0.0 else 1.0, "throttle and brake")
    # The lateral acceleration bound always holds; the others yield to it.
    most = steering_for(config.lateral_accel, speed, car)
    excess = abs(lateral_accel_of(steering, speed, car)) / config.lateral_accel - 1.0
    steering = bound(steering, -most, most, "lateral acceleration")
    if "lateral acceleration" in met:
        # A curve opened because it is too fast leads off the road: slow down for it, the harder the more it is.
        throttle, brake = 0.0, max(brake, min(1.0, excess))
    turn = car.steer_rate_max * dt / car.steer_max
    low, high = previous_steering - turn, previous_steering + turn
    steering = bound(steering, min(low, most), max(high, -most), "steering rate")
    before, step = lateral_accel_of(previous_steering, speed, car), config.lateral_jerk * dt
    low, high = steering_for(before - step, speed, car), steering_for(before + step, speed, car)
    steering = bound(steering, min(low, most), max(high, -most), "lateral jerk")
    return Actuation(steering, throttle, brake), tuple(met)
