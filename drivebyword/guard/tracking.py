"""Who else is there, and where are they going? Raw LiDAR and radar in, tracked obstacles out.

No learned part. LiDAR returns above the ground and below the roof become bodies, bodies become tracks, and
a track gets a velocity from its trail, its part along the line of sight from radar's Doppler. What could be
noise, a ghost, or a wall that shows ever other parts of itself does not move.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import cos, sin

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from drivebyword.core.records import LidarConfig, RadarConfig

Bodies = list[Float[np.ndarray, "_ 2"]]
"""Points of one body each, ego frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingConfig:
    """What counts as a body, and how long it is remembered. SI units."""

    ground_clearance: float = 0.35
    """Lower returns are road, kerb or pavement."""
    headroom: float = 2.2
    """Higher returns are gantries, branches and bridges."""
    reach: float = 45.0
    trail: int = 6
    """Frames a velocity is fitted to."""
    coast: int = 3
    """Frames an obstacle is remembered unseen."""


@dataclass(slots=True)
class Track:
    """One obstacle, in the present ego frame."""

    points: Float[np.ndarray, "P 2"]
    side: int
    """Which edge is watched: +1 the right one of a body on the left, -1 the left one, 0 the middle."""
    angle: float = 0.0
    """Direction of the axes in which edges are taken: the ego's own when the track began."""
    trail: Float[np.ndarray, "S 3"] = field(default_factory=lambda: np.zeros((0, 3)))
    """Minus the seconds since, x, y of the watched corner."""
    seen: int = 0
    missed: int = 0
    echo: Float[np.ndarray, " 3"] | None = None
    """Radar's line of sight (x, y) and the speed over ground along it."""
    lit: bool = False
    """LiDAR has seen it at least once."""
    heard: bool = False
    """Radar gave about the same speed in the frame before: not a ghost's."""
    velocity: Float[np.ndarray, " 2"] = field(default_factory=lambda: np.zeros(2))
    """Over ground; what could be noise is zero."""
    drift: Float[np.ndarray, " 2"] = field(default_factory=lambda: np.zeros(2))
    """The same without doubt, to find the obstacle again in the next frame."""

    def corner(self, points: Float[np.ndarray, "P 2"]) -> Float[np.ndarray, " 2"]:
        """Return the watched corner of a body: its near end, and the edge towards our way.

        In axes that do not turn with the ego, a corner stays put when a passed car shows ever other sides.
        """
        turn = _rotation(self.angle)
        local = points @ turn
        low, high = local.min(0), local.max(0)
        edge = {1: low[1], -1: high[1], 0: (low[1] + high[1]) / 2}[self.side]
        return turn @ np.array([low[0], edge])

    def take(self, points: Float[np.ndarray, "P 2"], keep: int, lit: bool) -> None:
        """Move to where the body is seen now."""
        self.lit |= lit
        self.points, self.seen, self.missed = points, self.seen + 1, 0
        self.trail = np.concatenate([self.trail, [[0.0, *self.corner(points)]]])[-keep:]


def _rotation(angle: float) -> Float[np.ndarray, "2 2"]:
    """Return the matrix that turns by an angle."""
    return np.array([[cos(angle), -sin(angle)], [sin(angle), cos(angle)]])


def lidar_points(
    lidar: Float32[np.ndarray, "beams columns 2"], mount: LidarConfig, config: TrackingConfig
) -> Float[np.ndarray, "P 2"]:
    """Return the nearest standing return of every column (ego frame), in order of azimuth, left to right."""
    distance = lidar[:, :, 0].astype(np.float64)
    beams, columns = distance.shape
    elevation = np.radians(np.linspace(mount.elevation_min_deg, mount.elevation_max_deg, beams))[:, None]
    azimuth = np.pi - (np.arange(columns) + 0.5) * 2 * np.pi / columns
    height = mount.z + distance * np.sin(elevation)
    flat = distance * np.cos(elevation)
    standing = (distance > 0.1) & (height > config.ground_clearance) & (height < config.headroom)
    # A body close by fills several beams of a column; a droplet of fog answers one.
    beside = np.abs(flat[:, None] - flat[None]) < 0.6
    support = (beside & standing[None]).sum(1)
    standing &= (flat < config.reach) & (support >= np.where(flat < 12.0, 3, np.where(flat < 25.0, 2, 1)))
    nearest = np.where(standing, flat, np.inf).min(0)
    keep = np.isfinite(nearest)
    return np.stack([mount.x + nearest[keep] * np.cos(azimuth[keep]), nearest[keep] * np.sin(azimuth[keep])], axis=1)


def radar_points(
    radar: Float32[np.ndarray, "detections 4"],
    valid: Bool[np.ndarray, " detections"],
    mount: RadarConfig,
    speed: float,
    yaw_rate: float,
    config: TrackingConfig,
) -> Float[np.ndarray, "P 5"]:
    """Return x, y (ego frame), the line of sight and the speed over ground along it of every detection."""
    rows = radar[valid].astype(np.float64)
    rows = rows[(rows[:, 0] > 0.1) & (rows[:, 0] < config.reach)]
    cosine, sine = np.cos(rows[:, 1]), np.sin(rows[:, 1])
    # The radar itself moves with the car: forward, and sideways when the car turns.
    own = speed * cosine + yaw_rate * mount.x * sine
    return np.stack([mount.x + rows[:, 0] * cosine, rows[:, 0] * sine, cosine, sine, rows[:, 2] + own], axis=1)


def cluster(points: Float[np.ndarray, "P 2"]) -> Bodies:
    """Split points ordered by azimuth wherever neighbours lie too far apart to be one body."""
    if len(points) == 0:
        return []
    step = np.hypot(*np.diff(points, axis=0).T)
    reach = np.hypot(points[:, 0], points[:, 1])
    allowed = 0.5 + 0.06 * np.minimum(reach[1:], reach[:-1])
    return np.split(points, np.flatnonzero(step > allowed) + 1)


@dataclass(slots=True)
class Scan:
    """What was free in an earlier frame: the nearest body in every direction, and from where it was seen."""

    reach: Float[np.ndarray, " A"]
    origin: Float[np.ndarray, " 2"] = field(default_factory=lambda: np.zeros(2))
    angle: float = 0.0

    @staticmethod
    def of(bodies: Bodies, sectors: int = 120) -> Scan:
        """Note the nearest point in every sector."""
        reach = np.full(sectors, np.inf)
        for body in bodies:
            azimuth = np.arctan2(body[:, 1], body[:, 0])
            np.minimum.at(reach, _sector(azimuth, sectors), np.hypot(body[:, 0], body[:, 1]))
        # One sector of doubt to each side: an edge may have lain between two columns.
        return Scan(np.minimum(reach, np.minimum(np.roll(reach, 1), np.roll(reach, -1))))

    def was_free(self, points: Float[np.ndarray, "P 2"]) -> bool:
        """Tell whether a good part of these places was looked through."""
        local = (points - self.origin) @ _rotation(self.angle)
        far = np.hypot(local[:, 0], local[:, 1])
        seen = self.reach[_sector(np.arctan2(local[:, 1], local[:, 0]), len(self.reach))]
        return bool(np.mean(seen > far + 0.7) > 0.3)


def _sector(azimuth: Float[np.ndarray, " P"], sectors: int) -> Int[np.ndarray, " P"]:
    return ((azimuth / (2 * np.pi) + 0.5) * sectors).astype(np.int64) % sectors


class Tracker:
    """Follows obstacles from frame to frame while the ego moves among them."""

    def __init__(self, config: TrackingConfig) -> None:
        self.config = config
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.tracks: list[Track] = []
        self.scans: list[Scan] = []

    def update(
        self,
        bodies: Bodies,
        echoes: Float[np.ndarray, "E 5"],
        speed: float,
        yaw_rate: float,
        dt: float,
        independent: bool,
    ) -> None:
        """Move the tracks by the ego's motion over `dt`, match them to `bodies`, refit velocities.

        `independent`: the bodies were not made of the echoes, so that the two confirm each other.
        """
        self._carry(speed, yaw_rate, dt)
        lit = len(bodies) if independent else 0
        self._match(bodies + _lonely(echoes, bodies) if independent else bodies, lit)
        now = Scan.of(bodies)
        for track in self.tracks:
            before, track.echo = track.echo, _echo(track.points, echoes)
            track.heard = before is not None and track.echo is not None and abs(before[2] - track.echo[2]) < 2.0
            silent = len(echoes) > 0 and before is None and track.echo is None
            moves = not independent or self._moves(track, now, silent)
            track.velocity, track.drift = _velocity(track, moves)
        self.scans = [*self.scans, now][-5:] if independent else []

    def _carry(self, speed: float, yaw_rate: float, dt: float) -> None:
        turn = yaw_rate * dt
        shift = speed * dt * np.array([cos(turn / 2), sin(turn / 2)])
        back = _rotation(-turn)
        for track in self.tracks:
            track.points = (track.points - shift + (track.velocity if track.missed else track.drift) * dt) @ back.T
            track.trail[:, 1:] = (track.trail[:, 1:] - shift) @ back.T
            track.trail[:, 0] -= dt
            track.angle -= turn
        for scan in self.scans:
            scan.origin = back @ (scan.origin - shift)
            scan.angle -= turn

    def _moves(self, track: Track, now: Scan, silent: bool) -> bool:
        """Tell whether a body is where it could be looked through before, or has left where it was.

        A wall that shows ever other parts never does. A person is too narrow for the test, and what is
        large and moves would be heard by a radar that hears others.
        """
        extent = np.ptp(track.points, axis=0).max()
        if extent < 1.2 and np.hypot(*track.drift) < 3.0:
            return True
        if extent > 3.0 and silent:
            return False
        age = min(len(track.trail), len(self.scans) + 1) - 1
        if age < 1:
            return False
        before = track.points - (track.trail[-1, 1:] - track.trail[-1 - age, 1:])
        return self.scans[-age].was_free(track.points) or now.was_free(before)

    def _match(self, bodies: Bodies, lit: int) -> None:
        """Give every body (the first `lit` are LiDAR's) to the nearest track; what is left over is new."""
        middles = np.array([b.min(0) + b.max(0) for b in bodies]).reshape(-1, 2) / 2
        held = np.array([t.points.min(0) + t.points.max(0) for t in self.tracks]).reshape(-1, 2) / 2
        apart = np.hypot(*(held[:, None] - middles[None]).transpose(2, 0, 1))
        # A newborn track knows no drift yet: another car may have moved 3 m since.
        gate = np.array([{1: 3.2, 2: 1.6}.get(t.seen, 1.0) for t in self.tracks])[:, None]
        gate = gate + 0.03 * np.hypot(held[:, 0], held[:, 1])[:, None]
        free_track, free_body = set(range(len(self.tracks))), set(range(len(bodies)))
        for k in np.argsort(apart, axis=None):
            i, j = divmod(int(k), len(bodies))
            if i in free_track and j in free_body and apart[i, j] < gate[i, 0]:
                free_track.remove(i)
                free_body.remove(j)
                self.tracks[i].take(bodies[j], self.config.trail, j < lit)
        for i in free_track:
            self.tracks[i].missed += 1
        self.tracks = [t for t in self.tracks if t.missed <= self.config.coast]
        for j in sorted(free_body):
            low, high = bodies[j][:, 1].min(), bodies[j][:, 1].max()
            self.tracks.append(Track(bodies[j], side=int(low > 0.0) - int(high < 0.0)))
            self.tracks[-1].take(bodies[j], self.config.trail, j < lit)


def _lonely(echoes: Float[np.ndarray, "E 5"], bodies: Bodies) -> Bodies:
    """Return echoes where LiDAR sees nothing: beyond 10 m a person may stand between two of its columns."""
    points = np.concatenate([*bodies, np.full((1, 2), np.inf)])
    gaps = np.hypot(*(echoes[:, None, :2] - points[None]).transpose(2, 0, 1)).min(1)
    return [echo[None, :2] for echo, gap in zip(echoes, gaps) if gap > 1.5 + 0.05 * np.hypot(*echo[:2])]


def _echo(points: Float[np.ndarray, "P 2"], echoes: Float[np.ndarray, "E 5"]) -> Float[np.ndarray, " 3"] | None:
    """Return line of sight and speed along it of the echo that falls on a body, or None."""
    if len(echoes) == 0:
        return None
    gaps = np.hypot(*(points[:, None] - echoes[None, :, :2]).transpose(2, 0, 1)).min(0)
    nearest = int(gaps.argmin())
    # An echo is a body's near end in the direction of its middle: for a long one, that is a place in between.
    close = gaps[nearest] < 1.0 + 0.03 * np.hypot(*echoes[nearest, :2]) + 0.2 * np.ptp(points, axis=0).max()
    return echoes[nearest, 2:] if close else None


def _velocity(track: Track, moves: bool) -> tuple[Float[np.ndarray, " 2"], Float[np.ndarray, " 2"]]:
    """Fit a velocity over ground to the trail; return it with and without doubt.

    Along and across our own way, not along the line of sight: others mostly move along the road, and an
    oncoming car whose sideways motion is unknown must not be taken to aim at us.
    """
    trail = track.trail
    if len(trail) < 2:
        drift = velocity = np.zeros(2)
    else:
        t, place = trail[:, 0] - trail[:, 0].mean(), trail[:, 1:] - trail[:, 1:].mean(0)
        spread = float(t @ t)
        drift = t @ place / spread
        left = np.sqrt(np.mean((place - t[:, None] * drift) ** 2, axis=0))
        mark = trail[-1, 1:]
        distance = max(float(np.hypot(*mark)), 1.0)
        # Range is sharp; the edge of a body falls between two columns, and so jitters with distance.
        jitter = 0.05 + 0.015 * distance
        noise = 0.08 + jitter * np.abs(mark[::-1]) / distance
        sigma = np.maximum(noise, left) / spread**0.5
        # A person near the lane is worth a doubt.
        small = np.ptp(track.points, axis=0).max() < 1.2
        velocity = np.where(np.abs(drift) > (1.3 if small else 2.0) * sigma, drift, 0.0)
        # Two bodies taken for one jump; a wall shows ever other parts: neither moves.
        steady = len(trail) >= (3 if np.hypot(*drift) < 3.0 else 4) and left.max() < 0.25 + 0.02 * distance
        if not moves or not steady or np.ptp(track.points, axis=0).max() > 14.0:
            velocity = np.zeros(2)
    if track.echo is not None and track.heard and track.echo[0] > 0.3:
        along = (track.echo[2] - velocity[1] * track.echo[1]) / track.echo[0]
        velocity = np.array([along, velocity[1]])
        drift = drift if len(trail) > 1 else track.echo[2] * track.echo[:2]
    return velocity * (np.hypot(*velocity) > 0.4), drift
