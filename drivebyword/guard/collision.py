"""Is something in the way? Tracked obstacles and an act in, the obstacle the car would hit out.

The car is rolled forward along the steering asked for: first the act, then the brake. It may go on as long as
that brake ends short of everything (Autoware's AEB rule d = v t + v^2 / 2a + offset, in the plane and in time).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, sin, tan

import numpy as np
from jaxtyping import Float

from drivebyword.core.kinematics import CarConfig
from drivebyword.guard.tracking import Tracker


@dataclass(frozen=True, slots=True, kw_only=True)
class CollisionConfig:
    """When to brake. SI units."""

    brake_decel: float = 6.5  # what the emergency brake is trusted with (the car can do 8)
    early_decel: float = 3.0  # with this gentler brake a conflict only forbids the throttle
    gap: float = 1.2  # kept ahead of the bumper at standstill; `gap_s` seconds of travel are added
    gap_s: float = 0.06
    hysteresis: float = 0.3  # added to the gap while the brake is on, so that it does not flutter
    side: float = 0.2  # added to each side of the car's body
    horizon_s: float = 2.0  # how long another's velocity is believed to hold
    oncoming_s: float = 0.8  # the same for what comes towards us: mostly it passes
    object_decel: float = 6.0  # what drives away may brake this hard (a car ahead in JRC's FSM: 6)
    confirm: int = 2  # frames in which something must be seen; one more where only one sensor sees it
    confirm_oncoming: int = 5  # the side an oncoming one passes on shows late
    person: float = 1.2  # what is smaller may be a person, who may stop in our way at any moment


def roll_out(
    speed: float, steering: float, chunk: Float[np.ndarray, "F 3"], decel: float, dt: float, car: CarConfig
) -> Float[np.ndarray, "K 5"]:
    """Return t, x, y, yaw, speed while driving the first act for `dt`, then braking at `decel` to standstill."""
    h = 0.1
    x = y = yaw = t = brake = 0.0
    steer = steering * car.steer_max
    rows = [(t, x, y, yaw, speed)]
    while len(rows) < 40 and (t < dt or speed > 0.0):
        want = float(chunk[min(int(t / dt + 1e-6), len(chunk) - 1), 0]) * car.steer_max
        steer += min(max(want - steer, -car.steer_rate_max * h), car.steer_rate_max * h)
        accel = float(chunk[0, 1]) * car.throttle_accel - float(chunk[0, 2]) * car.brake_decel
        if t > dt - 1e-6:
            brake += (1.0 - brake) * 0.63  # a lag of one step
            accel = -decel * brake
        middle, speed = max(0.0, speed + accel * h / 2), max(0.0, speed + accel * h)
        bend = middle * tan(steer) / car.wheelbase * h
        x, y = x + middle * h * cos(yaw + bend / 2), y + middle * h * sin(yaw + bend / 2)
        yaw, t = yaw + bend, t + h
        rows.append((t, x, y, yaw, speed))
    return np.array(rows)


def first_hit(
    tracker: Tracker, way: Float[np.ndarray, "K 5"], car: CarConfig, config: CollisionConfig, gap: float
) -> int | None:
    """Return the confirmed track that the car's front would touch first, keeping `gap` metres, or None."""
    tracks = tracker.tracks
    front, half = car.front, car.width / 2 + config.side
    speed, oncoming = np.hypot(*tracks["velocity"].T), tracks["velocity"][:, 0] < -1.5
    # Radar knows a speed at once; LiDAR's needs a third frame, LiDAR's absence another.
    needed = np.where(oncoming, config.confirm_oncoming, config.confirm + ~tracks["heard"] + ~tracks["lit"])
    believed = (tracks["seen"] >= needed) & ~(oncoming & (tracks["missed"] > 0))
    within = np.hypot(way[:, 1], way[:, 2]).max() + front + gap + speed * config.horizon_s
    near = (np.hypot(*tracker.points.T) < within[tracker.owner]) & (tracker.points[:, 0] > 0.0)
    chosen = np.flatnonzero(believed[tracker.owner] & near)
    if len(chosen) == 0:
        return None
    owner, time = tracker.owner[chosen], way[:, :1]
    # Who goes our way may brake.
    stop = np.where(tracks["velocity"][:, 0] > 0.35 * speed, np.maximum(speed, 0.5) / config.object_decel, np.inf)
    t = np.minimum(np.minimum(time, np.where(oncoming, config.oncoming_s, config.horizon_s)), stop)
    travel = (t - 0.5 * t * t / stop)[:, owner, None] * tracks["velocity"][owner]
    # A person both walks on and stands still.
    person = (tracks["extent"][owner] < config.person) & (speed[owner] > 0.0) & (speed[owner] < 3.0)
    travel = np.concatenate([travel, np.zeros((len(way), int(person.sum()), 2))], axis=1)
    owner, chosen = np.concatenate([owner, owner[person]]), np.concatenate([chosen, chosen[person]])
    dx, dy = np.moveaxis(tracker.points[chosen] + travel - way[:, None, 1:3], 2, 0)
    cosine, sine = np.cos(way[:, 3:4]), np.sin(way[:, 3:4])
    ahead, left = dx * cosine + dy * sine, dy * cosine - dx * sine
    # What reaches the rear half, or a car that stands, is not ours to prevent by braking.
    touch = (ahead > 0.5 * front) & (ahead < front + gap) & (np.abs(left) < half)
    moving = np.hypot(*np.diff(way[:, 1:3], axis=0, prepend=way[:1, 1:3]).T) > 0.0
    moving[0] = way[0, 4] > 0.0
    touch &= ~(touch[0] & (ahead[0] < front)) & moving[:, None]
    return int(owner[touch[touch.any(1).argmax()].argmax()]) if touch.any() else None
