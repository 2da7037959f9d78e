"""Is something in the way? Tracked obstacles and an act in, the obstacle the car would hit out.

The car is rolled forward along the steering that was asked for: first the act, then the brake. It may go on
exactly as long as that brake still ends short of everything (the braking-distance rule of Autoware's AEB,
d = v t + v^2 / 2a + offset, carried out in the plane and in time, so that a crossing pedestrian counts where
he will be and a parked car at the kerb not at all).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, sin, tan

import numpy as np
from jaxtyping import Float

from drivebyword.core.kinematics import CarConfig
from drivebyword.guard.tracking import Track


@dataclass(frozen=True, slots=True, kw_only=True)
class CollisionConfig:
    """When to brake. SI units."""

    brake_decel: float = 6.5
    """What the emergency brake is trusted with (the car can do 8)."""
    early_decel: float = 3.0
    """With this gentler brake a conflict only forbids the throttle."""
    gap: float = 1.2
    """To be kept ahead of the bumper at standstill; `gap_s` seconds of travel are added."""
    gap_s: float = 0.06
    hysteresis: float = 0.3
    """Metres added to the gap while the brake is on, so that it does not flutter."""
    side: float = 0.2
    """Added to each side of the car's body."""
    horizon_s: float = 2.0
    """How long another's velocity is believed to hold."""
    object_decel: float = 4.0
    """What drives away may brake this hard."""
    confirm: int = 2
    """Frames in which something must be seen before it is braked for; more where only one sensor sees it."""
    confirm_oncoming: int = 5
    """The same for what comes towards us: mostly it passes, and the side it passes on shows late."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """Where the car would be: K moments of one manoeuvre."""

    time_s: Float[np.ndarray, " K"]
    pose: Float[np.ndarray, "K 3"]
    speed: Float[np.ndarray, " K"]


def roll_out(
    speed: float,
    steering: float,
    chunk: Float[np.ndarray, "F 3"],
    decel: float,
    free_s: float,
    dt: float,
    car: CarConfig,
) -> Rollout:
    """Drive the chunk's pedals for `free_s`, then brake at `decel` to standstill, along the chunk's steering."""
    h, limit = 0.1, 40
    x = y = yaw = t = 0.0
    steer = steering * car.steer_max
    brake = 0.0
    rows = [(t, x, y, yaw, speed)]
    while len(rows) < limit and (t < free_s or speed > 0.0):
        step = chunk[min(int(t / dt + 1e-6), len(chunk) - 1)]
        want = float(step[0]) * car.steer_max
        steer += min(max(want - steer, -car.steer_rate_max * h), car.steer_rate_max * h)
        if t < free_s - 1e-6:
            accel = float(step[1]) * car.throttle_accel - float(step[2]) * car.brake_decel
        else:
            brake += (1.0 - brake) * 0.63
            accel = -decel * brake
        middle = max(0.0, speed + accel * h / 2)
        speed = max(0.0, speed + accel * h)
        yaw_step = middle * tan(steer) / car.wheelbase * h
        x += middle * h * cos(yaw + yaw_step / 2)
        y += middle * h * sin(yaw + yaw_step / 2)
        yaw, t = yaw + yaw_step, t + h
        rows.append((t, x, y, yaw, speed))
    table = np.array(rows)
    return Rollout(table[:, 0], table[:, 1:4], table[:, 4])


def first_hit(tracks: list[Track], way: Rollout, car: CarConfig, config: CollisionConfig, gap: float) -> Track | None:
    """Return the confirmed track that the car's front would touch first, keeping `gap` metres, or None."""
    front = car.length - car.rear_overhang
    half = car.width / 2 + config.side
    cosine, sine = np.cos(way.pose[:, 2])[:, None], np.sin(way.pose[:, 2])[:, None]
    first, soonest = None, np.inf
    for track in tracks:
        oncoming = track.velocity[0] < -1.5
        # Radar knows a speed at once; LiDAR's needs a third frame, LiDAR's absence another.
        needed = config.confirm_oncoming if oncoming else config.confirm + (not track.heard) + (not track.lit)
        if track.seen < needed or (oncoming and track.missed):
            continue
        if track.points[:, 0].max() < 0.5 * front:
            continue
        points = _advanced(track, way.time_s, config)
        dx = points[:, :, 0] - way.pose[:, 0, None]
        dy = points[:, :, 1] - way.pose[:, 1, None]
        ahead, left = dx * cosine + dy * sine, dy * cosine - dx * sine
        # What reaches the rear half, or a car that stands, is not ours to prevent by braking.
        touch = (ahead > 0.5 * front) & (ahead < front + gap) & (np.abs(left) < half)
        beside = touch[0] & (ahead[0] < front)
        moving = np.concatenate([[way.speed[0] > 0.0], np.diff(way.pose[:, 0]) ** 2 + np.diff(way.pose[:, 1]) ** 2 > 0])
        hits = (touch & ~beside).any(1) & moving
        if hits.any() and way.time_s[hits.argmax()] < soonest:
            first, soonest = track, float(way.time_s[hits.argmax()])
    return first


def _advanced(track: Track, time_s: Float[np.ndarray, " K"], config: CollisionConfig) -> Float[np.ndarray, "K P 2"]:
    """Return where a track's points will be."""
    t = np.minimum(time_s, config.horizon_s * (0.4 if track.velocity[0] < -1.5 else 1.0))
    speed = float(np.hypot(*track.velocity))
    if speed > 0.5 and track.velocity[0] > 0.7 * speed:
        t_stop = speed / config.object_decel
        t = np.minimum(t, t_stop)
        travel = t - 0.5 * config.object_decel / speed * t * t
    else:
        travel = t
    return track.points[None] + travel[:, None, None] * track.velocity
