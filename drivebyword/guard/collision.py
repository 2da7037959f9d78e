"""Is something in the way? Raw LiDAR and radar in, tracked obstacles and the one the car would hit out.

No learned part and no ground truth. LiDAR returns above the ground and below the roof become clusters,
clusters become tracks, tracks get a velocity from their trail (and its radial part from radar Doppler).
The car is then rolled forward along the steering that was asked for: first the act, then the brake. It
may go on exactly as long as that brake still ends short of everything (the braking-distance rule of
Autoware's AEB, d = v t + v^2 / 2a + offset, carried out in the plane and in time, so that a crossing
pedestrian counts where he will be and a parked car at the kerb not at all).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import cos, sin, tan

import numpy as np
from jaxtyping import Bool, Float, Float32

from drivebyword.core.kinematics import CarConfig
from drivebyword.core.records import LidarConfig, RadarConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class CollisionConfig:
    """When to brake. SI units."""

    ground_clearance: float = 0.35
    """Lower returns are road, kerb or pavement."""
    headroom: float = 2.2
    """Higher returns are gantries, branches and bridges."""
    reach: float = 45.0
    brake_decel: float = 6.5
    """What the emergency brake is trusted with (the car can do 8)."""
    early_decel: float = 3.0
    """With this gentler brake a conflict only forbids the throttle."""
    gap: float = 0.5
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
    """Frames in which something must be seen before it is braked for."""
    trail: int = 6
    """Frames of it that are remembered."""
    coast: int = 2
    """Frames an obstacle is remembered unseen."""


@dataclass(slots=True)
class Track:
    """One obstacle, in the present ego frame."""

    points: Float[np.ndarray, "P 2"]
    trail: Float[np.ndarray, "S 3"]
    """Minus the seconds since, x, y of its mark."""
    seen: int = 1
    missed: int = 0
    radial: float | None = None
    """Radar's speed over ground along the line of sight, positive away."""
    velocity: Float[np.ndarray, " 2"] = field(default_factory=lambda: np.zeros(2))


def _mark(points: Float[np.ndarray, "P 2"]) -> Float[np.ndarray, " 2"]:
    """Return the edge nearest to the ego in x and to its axis in y.

    Unlike a middle it stays put when a passed car shows ever other parts of itself.
    """
    low, high = points.min(0), points.max(0)
    return np.array([low[0], min(max(0.0, low[1]), high[1])])


def lidar_points(
    lidar: Float32[np.ndarray, "beams columns 2"], mount: LidarConfig, config: CollisionConfig
) -> Float[np.ndarray, "P 2"]:
    """Return the nearest standing return of every column (ego frame), in order of azimuth, left to right."""
    distance = lidar[:, :, 0].astype(np.float64)
    beams, columns = distance.shape
    elevation = np.radians(np.linspace(mount.elevation_min_deg, mount.elevation_max_deg, beams))[:, None]
    azimuth = np.pi - (np.arange(columns) + 0.5) * 2 * np.pi / columns
    height = mount.z + distance * np.sin(elevation)
    flat = distance * np.cos(elevation)
    standing = (distance > 0.1) & (height > config.ground_clearance) & (height < config.headroom)
    nearest = np.where(standing & (flat < config.reach), flat, np.inf).min(0)
    keep = np.isfinite(nearest)
    points = np.stack([mount.x + nearest[keep] * np.cos(azimuth[keep]), nearest[keep] * np.sin(azimuth[keep])], axis=1)
    return points


def radar_points(
    radar: Float32[np.ndarray, "detections 4"],
    valid: Bool[np.ndarray, " detections"],
    mount: RadarConfig,
    speed: float,
    yaw_rate: float,
    config: CollisionConfig,
) -> Float[np.ndarray, "P 3"]:
    """Return x, y (ego frame) and the speed over ground along the line of sight of every detection."""
    rows = radar[valid].astype(np.float64)
    rows = rows[(rows[:, 0] > 0.1) & (rows[:, 0] < config.reach)]
    cosine, sine = np.cos(rows[:, 1]), np.sin(rows[:, 1])
    # The radar itself moves with the car: forward, and sideways when the car turns.
    own = speed * cosine + yaw_rate * mount.x * sine
    return np.stack([mount.x + rows[:, 0] * cosine, rows[:, 0] * sine, rows[:, 2] + own], axis=1)


def cluster(points: Float[np.ndarray, "P 2"]) -> list[Float[np.ndarray, "Q 2"]]:
    """Split points ordered by azimuth wherever neighbours lie too far apart to be one body."""
    if len(points) == 0:
        return []
    step = np.hypot(*np.diff(points, axis=0).T)
    reach = np.hypot(points[:, 0], points[:, 1])
    allowed = 0.5 + 0.06 * np.minimum(reach[1:], reach[:-1])
    return np.split(points, np.flatnonzero(step > allowed) + 1)


class Tracker:
    """Follows obstacles from frame to frame while the ego moves among them."""

    def __init__(self, config: CollisionConfig) -> None:
        self.config = config
        self.tracks: list[Track] = []

    def reset(self) -> None:
        """Forget everything."""
        self.tracks = []

    def update(
        self,
        bodies: list[Float[np.ndarray, "Q 2"]],
        echoes: Float[np.ndarray, "P 3"],
        speed: float,
        yaw_rate: float,
        dt: float,
    ) -> None:
        """Move the tracks by the ego's motion over `dt`, match them to `bodies`, refit velocities."""
        self._carry(speed, yaw_rate, dt)
        self._match(bodies)
        for track in self.tracks:
            track.radial = _radial(track, echoes)
            track.velocity = _velocity(track)

    def _carry(self, speed: float, yaw_rate: float, dt: float) -> None:
        turn, half = yaw_rate * dt, yaw_rate * dt / 2
        shift = np.array([speed * dt * cos(half), speed * dt * sin(half)])
        rotate = np.array([[cos(turn), sin(turn)], [-sin(turn), cos(turn)]])
        for track in self.tracks:
            track.points = (track.points - shift) @ rotate.T + rotate @ track.velocity * dt
            track.velocity = rotate @ track.velocity
            track.trail[:, 1:] = (track.trail[:, 1:] - shift) @ rotate.T
            track.trail[:, 0] -= dt

    def _match(self, bodies: list[Float[np.ndarray, "Q 2"]]) -> None:
        marks = np.array([_mark(body) for body in bodies]).reshape(-1, 2)
        fresh = np.pad(marks, ((0, 0), (1, 0)))[:, None]
        held = np.array([_mark(t.points) for t in self.tracks]).reshape(-1, 2)
        apart = np.hypot(*(held[:, None] - marks[None]).transpose(2, 0, 1))
        # A newborn track has no velocity yet: another car may have moved 3 m since.
        young = np.array([t.seen < 3 for t in self.tracks], bool)
        gate = np.where(young, 3.0, 1.2)[:, None] + 0.03 * np.hypot(marks[:, 0], marks[:, 1])[None]
        free_track, free_body = set(range(len(held))), set(range(len(marks)))
        for k in np.argsort(apart, axis=None):
            i, j = divmod(int(k), max(len(marks), 1))
            if i in free_track and j in free_body and apart[i, j] < gate[i, j]:
                free_track.remove(i)
                free_body.remove(j)
                track = self.tracks[i]
                track.points, track.seen, track.missed = bodies[j], track.seen + 1, 0
                track.trail = np.concatenate([track.trail, fresh[j]])[-self.config.trail :]
        for i in free_track:
            self.tracks[i].missed += 1
        self.tracks = [t for t in self.tracks if t.missed <= self.config.coast]
        self.tracks += [Track(bodies[j], fresh[j]) for j in sorted(free_body)]


def _radial(track: Track, echoes: Float[np.ndarray, "P 3"]) -> float | None:
    """Return the ground speed along the line of sight of the echoes that fall on a track."""
    if len(echoes) == 0:
        return None
    gaps = np.hypot(*(track.points[:, None] - echoes[None, :, :2]).transpose(2, 0, 1)).min(0)
    near = gaps < 1.0 + 0.03 * np.hypot(*_mark(track.points))
    return float(np.median(echoes[near, 2])) if near.any() else None


def _velocity(track: Track) -> Float[np.ndarray, " 2"]:
    """Fit a velocity to the trail; a component that could be noise is zero.

    Along and across our own way, not along the line of sight: others mostly move along the road, and an
    oncoming car whose sideways motion is unknown must not be taken to aim at us.
    """
    mark = track.trail[-1, 1:]
    distance = max(float(np.hypot(*mark)), 1.0)
    away = mark / distance
    velocity = np.zeros(2)
    if float(np.ptp(track.points, axis=0).max()) < 14.0:
        # Range is sharp; the edge of a body falls between two columns, and so jitters with distance.
        jitter = 0.05 + 0.015 * distance
        noise = 0.08 + jitter * np.abs(away[::-1])
        for axis, frames in ((0, 4), (1, 6)):
            velocity[axis] = _slope(track.trail[-frames:], 1 + axis, float(noise[axis]))
    if track.radial is not None and abs(away[0]) > 0.5:
        velocity[0] = (track.radial - velocity[1] * away[1]) / away[0]
    elif track.radial is not None:
        velocity += (track.radial - velocity @ away) * away
    return velocity * (np.hypot(*velocity) > 0.4)


def _slope(trail: Float[np.ndarray, "S 3"], column: int, noise: float) -> float:
    """Return the rate of change of one coordinate, 0 when within two standard errors of it."""
    if len(trail) < 3:
        return 0.0
    t, place = trail[:, 0] - trail[:, 0].mean(), trail[:, column] - trail[:, column].mean()
    spread = float(t @ t)
    slope = float(t @ place) / spread
    sigma = max(noise, float(np.sqrt(np.mean((place - t * slope) ** 2)))) / spread**0.5
    return slope if abs(slope) > 2.0 * sigma else 0.0


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
        if track.seen < config.confirm and track.radial is None:
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
    t = np.minimum(time_s, config.horizon_s)
    speed = float(np.hypot(*track.velocity))
    if speed > 0.5 and track.velocity[0] > 0.7 * speed:
        t_stop = speed / config.object_decel
        t = np.minimum(t, t_stop)
        travel = t - 0.5 * config.object_decel / speed * t * t
    else:
        travel = t
    return track.points[None] + travel[:, None, None] * track.velocity
