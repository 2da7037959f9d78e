"""Hands and feet of the expert: a track and a wanted acceleration in, steering, throttle and brake out."""

from __future__ import annotations

from math import atan2, cos, sin, sqrt

import numpy as np
from jaxtyping import Float

from drivebyword.core.kinematics import CarConfig, CarState
from drivebyword.world.paths import Track

LATERAL_COMFORT = 2.0
"""m/s2 in curves."""
BRAKE_COMFORT, BRAKE_ONSET = 1.8, 1.3
"""m/s2: what a planned stop takes, and the need at which braking for one begins."""
FIRM = 3.0
"""m/s2: as hard as anybody brakes for a place that may be overrun."""
ACCELERATION = 1.6
JERK_UP, JERK_DOWN = 1.0, 1.3
"""m/s2 of change a decision, where there is no emergency."""
HOLD_BRAKE = 0.3


def pursue(track: Track, s: float, state: CarState, car: CarConfig) -> float:
    """Return the steering in [-1, 1] that brings the rear axle onto the track: pure pursuit."""
    reach = min(max(2.2 + 0.55 * state.speed, 3.2), 12.0)
    x, y = track.at(s + reach)
    dx, dy = x - state.x, y - state.y
    distance = sqrt(dx * dx + dy * dy)
    bearing = atan2(dy, dx) - state.yaw
    if cos(bearing) < 0:  # behind: turn as far as the wheels go
        return 1.0 if sin(bearing) > 0 else -1.0
    wheel = atan2(2 * car.wheelbase * sin(bearing), max(distance, 2.0))
    return min(max(wheel / car.steer_max, -1.0), 1.0)


def press(accel: float, state: CarState, car: CarConfig, halt: bool) -> tuple[float, float]:
    """Return throttle and brake for a wanted acceleration; `halt` keeps a standing car standing."""
    if halt:
        return 0.0, HOLD_BRAKE
    drag = car.rolling + car.drag * state.speed * state.speed if state.speed > 0 else 0.0
    push = accel + drag
    if push >= 0.0:
        return min(1.0, push / (car.throttle_accel * max(0.1, 1.0 - state.speed / car.top_speed))), 0.0
    return 0.0, min(1.0, -push / car.brake_decel)


def soften(accel: float, state: CarState) -> float:
    """Limit the change of acceleration, but for emergencies."""
    if accel < -3.5:
        return accel
    now = max(state.accel, -0.3) if state.speed < 0.3 else state.accel
    return min(max(accel, now - JERK_DOWN), now + JERK_UP)


def curve_speeds(
    track: Track, s: float, factor: float, reach: float = 70.0, lateral: float = LATERAL_COMFORT
) -> Float[np.ndarray, "2 P"]:
    """Return (arc length, allowed speed) ahead: limits times `factor`, curves, and room to slow down for both.

    `lateral` is the sideways acceleration allowed in curves, m/s2.
    """
    low = max(int(np.searchsorted(track.s, s)) - 1, 0)
    high = max(int(np.searchsorted(track.s, s + reach)), low + 2)
    arc = track.s[low:high]
    allowed = np.minimum(
        np.sqrt(lateral / np.maximum(np.abs(track.curvature[low:high]), 1e-4)), track.limit[low:high] * factor
    )
    # v0^2 = v^2 + 2 a d, from every place ahead: a running minimum of v^2 + 2 a s, from the far end.
    energy = allowed**2 + 2 * 1.4 * arc
    energy = np.minimum.accumulate(energy[::-1])[::-1]
    return np.stack([arc, np.sqrt(np.maximum(energy - 2 * 1.4 * arc, 0.01))])


def speed_within(sight: float) -> float:
    """Return the speed from which the car stops within the metres it sees: half a second, then 3 m/s2."""
    return 3.0 * (sqrt(0.25 + 2.0 * max(sight - 4.0, 0.5) / 3.0) - 0.5)


def toward_speed(wanted: float, speed: float) -> float:
    """Return the acceleration towards a cruising speed."""
    return min(max((wanted - speed) / 0.8, -2.5), ACCELERATION)


def toward_stop(distance: float, speed: float, slack: float = 0.0) -> float:
    """Return the acceleration that stops the front bumper in `distance` metres, smoothly.

    Up to `slack` metres more are taken rather than brake harder than FIRM.
    """
    if slack > 0.0:
        return min(max(toward_stop(distance, speed), -FIRM), toward_stop(distance + slack, speed))
    if distance < 0.15:
        return -1.0 - speed
    if speed < 0.6 and distance < 0.6:
        return -0.8
    need = speed * speed / (2 * distance)
    if need > BRAKE_ONSET:
        return -need - 0.15 * (need - BRAKE_COMFORT) * (need > BRAKE_COMFORT)
    if need > 0.6 * BRAKE_ONSET:
        return -0.1
    # Not so fast that braking would have to start at once again.
    return (sqrt(2 * 0.6 * BRAKE_ONSET * distance) - speed) / 0.8


def behind_leader(gap: float, speed: float, pace: float) -> float:
    """Return the intelligent driver model's interaction: acceleration behind somebody `gap` metres ahead."""
    wanted = 2.8 + max(0.0, 1.2 * speed + speed * (speed - pace) / (2 * sqrt(ACCELERATION * 2.0)))
    return ACCELERATION * (1.0 - (wanted / max(gap, 0.3)) ** 2)
