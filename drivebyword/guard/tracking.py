"""Who else is there, and where are they going? Raw LiDAR and radar in, tracked obstacles out.

No learned part. Returns above the ground and below the roof become bodies, bodies become tracks, and a track gets
a velocity from its trail, its part along the line of sight from radar's Doppler. What could be noise, a ghost, or a
wall that shows ever other parts of itself does not move. The points of all bodies lie one body after the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Shaped

from drivebyword.core.rig import LidarConfig, RadarConfig

Points = Float[np.ndarray, "P 2"]
"""x, y in the ego frame, metres."""
PerBody = Float[np.ndarray, "N 2"]
Echoes = Float[np.ndarray, "E 5"]
"""x, y (ego frame), the line of sight and the speed over ground along it, in order of azimuth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingConfig:
    """What counts as a body, and how long it is remembered. Metres, frames."""

    ground_clearance: float = 0.35  # lower returns are road, kerb or pavement
    headroom: float = 2.2  # higher returns are gantries, branches and bridges
    reach: float = 45.0
    behind: float = 12.0  # what is farther back never comes before our front in time
    coast: int = 3  # frames an obstacle is remembered unseen
    wall: float = 14.0  # longer bodies are walls or rows of parked cars (a bus is 12 m)
    person: float = 1.2  # shorter bodies may be people


TRACK = np.dtype(
    [
        ("side", int),  # which edge is watched: 1 the right one of a body on the left, -1 the left one, 0 the middle
        ("extent", float),  # longer side along the ego's axes, metres
        ("trail", float, (6, 3)),  # minus seconds since, x, y of the watched corner; newest last, NaN before the first
        ("angle", float),  # direction of the axes of the corner: the ego's own when the track began
        ("seen", int),  # frames
        ("missed", int),  # frames in a row
        ("lit", bool),  # LiDAR has seen it at least once
        ("echo", float, 3),  # radar's line of sight x, y and the speed over ground along it; NaN: silent
        ("heard", bool),  # radar gave about the same speed in the frame before: not a ghost's
        ("velocity", float, 2),  # over ground, ego frame; what could be noise is zero
        ("drift", float, 2),  # the same without doubt, to find the obstacle again
    ]
)


def bounds(points: Points, owner: Int[np.ndarray, " P"]) -> tuple[PerBody, PerBody]:
    """Return the least and greatest x, y of every body."""
    if len(owner) == 0:
        return points, points
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    return np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)


def _turned(points: Points, angle: Float[np.ndarray, " P"] | float) -> Points:
    """Return points turned to the left about the origin."""
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([points[:, 0] * c - points[:, 1] * s, points[:, 0] * s + points[:, 1] * c], axis=1)


def lidar_points(
    lidar: Float32[np.ndarray, "beams columns 2"], mount: LidarConfig, config: TrackingConfig
) -> Float[np.ndarray, "P 2"]:
    """Return the nearest standing return of every column (ego frame), in order of azimuth, left to right."""
    distance = lidar[:, :, 0].astype(np.float64)
    elevation, azimuth = mount.elevations()[:, None], mount.azimuths()
    height = mount.z + distance * np.sin(elevation)
    standing = (distance > 0.1) & (height > config.ground_clearance) & (height < config.headroom)
    ranked = np.sort(np.where(standing, distance * np.cos(elevation), 1e9), axis=0)
    # A body close by fills several beams of a column; a droplet of fog answers one.
    pair, triple = np.full(ranked.shape, 1e9), np.full(ranked.shape, 1e9)
    pair[:-1], triple[:-2] = ranked[1:] - ranked[:-1], ranked[2:] - ranked[:-2]
    firm = (ranked > 25.0) | ((pair < 0.6) & (ranked > 12.0)) | (triple < 1.0)
    nearest = np.where(firm, ranked, 1e9).min(0)
    found = np.stack([mount.x + nearest * np.cos(azimuth), nearest * np.sin(azimuth)], axis=1)
    return found[(nearest < config.reach) & (found[:, 0] > -config.behind)]


def radar_points(
    rows: Float32[np.ndarray, "D 4"], mount: RadarConfig, speed: float, yaw_rate: float, reach: float
) -> Echoes:
    """Return radar's valid detections as echoes."""
    rows = rows[(rows[:, 0] > 0.1) & (rows[:, 0] < reach)].astype(np.float64)
    distance, azimuth, rate, _ = rows[np.argsort(-rows[:, 1])].T
    cosine, sine = np.cos(azimuth), np.sin(azimuth)
    # The radar itself moves with the car: forward, and sideways when the car turns.
    rate = rate + speed * cosine + yaw_rate * mount.x * sine
    return np.stack([mount.x + distance * cosine, distance * sine, cosine, sine, rate], axis=1)


def cluster(points: Points) -> Int[np.ndarray, " P"]:
    """Number the bodies of points ordered by azimuth: a new one where neighbours lie too far apart to be one."""
    reach, step = np.hypot(*points.T), np.hypot(*np.diff(points, axis=0).T)
    apart = step > 0.5 + 0.06 * np.minimum(reach[1:], reach[:-1])
    return np.cumsum(np.concatenate([[False], apart]))[: len(points)]


class Scan:
    """What was free in an earlier frame: the nearest return in every direction, and from where it was seen."""

    def __init__(self, points: Points, sectors: int = 120) -> None:
        self.reach, self.origin, self.angle = np.full(sectors, np.inf), np.zeros((1, 2)), 0.0
        np.minimum.at(self.reach, self._sector(points), np.hypot(*points.T))
        # One sector of doubt to each side: an edge may have lain between two columns.
        self.reach = np.minimum(self.reach, np.minimum(np.roll(self.reach, 1), np.roll(self.reach, -1)))

    def _sector(self, points: Points) -> Int[np.ndarray, " P"]:
        turns = np.arctan2(points[:, 1], points[:, 0]) / (2 * np.pi) + 0.5
        return (turns * len(self.reach)).astype(int) % len(self.reach)

    def free(self, points: Points) -> Bool[np.ndarray, " P"]:
        """Tell which places were looked through."""
        local = _turned(points - self.origin, -self.angle)
        return self.reach[self._sector(local)] > np.hypot(*local.T) + 0.7


class Tracker:
    """Follows obstacles from frame to frame while the ego moves among them."""

    def __init__(self, config: TrackingConfig) -> None:
        self.config = config
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.tracks: Shaped[np.ndarray, " N"] = np.zeros(0, TRACK)
        self.points: Points = np.zeros((0, 2))
        self.owner: Int[np.ndarray, " P"] = np.zeros(0, int)
        self.scans: list[Scan] = []

    def update(self, points: Points | None, echoes: Echoes, motion: tuple[float, float], dt: float) -> None:
        """Move the tracks by the ego's motion (speed, yaw rate) over `dt`, match them to bodies, refit velocities.

        Without LiDAR's points the bodies are radar's echoes.
        """
        self._carry(*motion, dt)
        bodies = echoes[:, :2] if points is None else points
        owner, now, lit = cluster(bodies), Scan(bodies), 0
        if points is not None:
            lit = len(np.unique(owner))
            # Echoes where LiDAR sees nothing: beyond 10 m a person may stand between two of its columns.
            gaps = np.hypot(*(echoes[:, None, :2] - points).transpose(2, 0, 1)).min(1, initial=np.inf)
            lonely = echoes[gaps > 1.5 + 0.05 * np.hypot(*echoes[:, :2].T), :2]
            bodies, owner = np.concatenate([points, lonely]), np.concatenate([owner, lit + np.arange(len(lonely))])
        self._match(bodies, owner, lit)
        told = self._echoes(echoes)
        self.tracks["heard"], self.tracks["echo"] = np.abs(self.tracks["echo"][:, 2] - told[:, 2]) < 2.0, told
        self._fit(now if points is not None else None)
        self.scans = [now, *self.scans][:5] if points is not None else []

    def _carry(self, speed: float, yaw_rate: float, dt: float) -> None:
        turn, t = yaw_rate * dt, self.tracks
        shift = speed * dt * np.array([[np.cos(turn / 2), np.sin(turn / 2)]])
        moved = np.where(t["missed"][:, None] > 0, t["velocity"], t["drift"]) * dt
        self.points = _turned(self.points + moved[self.owner] - shift, -turn)
        t["velocity"], t["drift"] = _turned(t["velocity"], -turn), _turned(t["drift"], -turn)
        places = t["trail"][:, :, 1:]
        places[:] = _turned(places.reshape(-1, 2) - shift, -turn).reshape(places.shape)
        t["trail"][:, :, 0] -= dt
        t["angle"] -= turn
        for scan in self.scans:
            scan.origin, scan.angle = _turned(scan.origin - shift, -turn), scan.angle - turn

    def _match(self, points: Points, owner: Int[np.ndarray, " P"], lit: int) -> None:
        """Give every body (the first `lit` are LiDAR's) to the nearest track; what is left over is new."""
        held, (low, high) = self.tracks, bounds(points, owner)
        at = np.add(*bounds(self.points, self.owner)) / 2
        apart = np.hypot(*(at[:, None] - (low + high) / 2).transpose(2, 0, 1))
        # A newborn track knows no drift yet: another car may have moved 3 m since.
        gate = np.select([held["seen"] == 1, held["seen"] == 2], [3.2, 1.6], 1.0) + 0.03 * np.hypot(*at.T)
        rows, columns = np.nonzero(apart < gate[:, None])
        old, lost = np.full(len(low), -1), np.ones(len(at), bool)
        for k in np.argsort(apart[rows, columns]):
            if lost[rows[k]] and old[columns[k]] < 0:
                lost[rows[k]], old[columns[k]] = False, rows[k]
        found = np.zeros(len(low), TRACK)
        found["trail"] = found["echo"] = np.nan
        found["side"] = (low[:, 1] > 0.0).astype(int) - (high[:, 1] < 0.0)
        found[old >= 0] = held[old[old >= 0]]
        found["extent"], found["missed"] = (high - low).max(1, initial=0.0), 0
        found["seen"] += 1
        found["lit"][:lit] = True
        # The watched corner is a body's near end and its edge towards our way. In axes that do not turn with
        # the ego it stays put when a passed car shows ever other sides.
        low, high = bounds(_turned(points, -found["angle"][owner]), owner)
        edge = np.choose(found["side"] + 1, [high[:, 1], (low + high)[:, 1] / 2, low[:, 1]])
        found["trail"][:, :-1] = found["trail"][:, 1:].copy()
        found["trail"][:, -1, 0] = 0.0
        found["trail"][:, -1, 1:] = _turned(np.stack([low[:, 0], edge], axis=1), found["angle"])
        held["missed"] += 1
        kept = lost & (held["missed"] <= self.config.coast)
        theirs, number = kept[self.owner], np.cumsum(kept) - 1 + len(found)
        self.owner = np.concatenate([owner, number[self.owner[theirs]]])
        self.points, self.tracks = np.concatenate([points, self.points[theirs]]), np.concatenate([found, held[kept]])

    def _echoes(self, echoes: Echoes) -> Float[np.ndarray, "N 3"]:
        """Return line of sight and speed along it of the echo that falls on each body, NaN where none does."""
        found = np.full((len(self.tracks), 3), np.nan)
        if len(echoes) and len(found):
            gaps = np.hypot(*(self.points[:, None] - echoes[:, :2]).transpose(2, 0, 1))
            gaps = np.minimum.reduceat(gaps, np.flatnonzero(np.diff(self.owner, prepend=-1)))
            nearest = echoes[gaps.argmin(1)]
            # An echo is a body's near end in the direction of its middle: for a long one, a place in between.
            close = gaps.min(1) < 1.0 + 0.03 * np.hypot(*nearest[:, :2].T) + 0.2 * self.tracks["extent"]
            found[close] = nearest[close, 2:]
        return found

    def _moves(self, now: Scan) -> Bool[np.ndarray, " N"]:
        """Tell which bodies are where it could be looked through before, or have left where they were.

        A wall that shows ever other parts never does. A person is too narrow for the test.
        """
        t, owner, n = self.tracks, self.owner, len(self.tracks)
        age = np.minimum(np.isfinite(t["trail"][:, :, 0]).sum(1) - 1, len(self.scans))
        past = self.points - (t["trail"][:, -1, 1:] - t["trail"][np.arange(n), -1 - age, 1:])[owner]
        came = np.zeros(len(self.points), bool)
        for k, scan in enumerate(self.scans, start=1):
            mine = age[owner] == k
            came[mine] = scan.free(self.points[mine])
        share = np.maximum(np.bincount(owner, now.free(past), n), np.bincount(owner, came, n)) / np.bincount(owner)
        person = (t["extent"] < self.config.person) & (np.hypot(*t["drift"].T) < 3.0)
        return person | ((age > 0) & (share > 0.3))

    def _fit(self, now: Scan | None) -> None:
        """Fit a velocity over ground to every trail, with and without doubt.

        Along and across our own way, not along the line of sight: others mostly move along the road, and an
        oncoming car whose sideways motion is unknown must not be taken to aim at us.
        """
        t, known = self.tracks, np.isfinite(self.tracks["trail"][:, :, :1])
        count = known.sum(1)
        centred = np.where(known, t["trail"] - np.nansum(t["trail"], axis=1, keepdims=True) / count[:, None], 0.0)
        time, place = centred[:, :, :1], centred[:, :, 1:]
        spread = np.maximum((time**2).sum(1), 1e-6)
        t["drift"] = drift = (time * place).sum(1) / spread
        left = np.sqrt(((place - time * drift[:, None]) ** 2).sum(1) / count)
        mark = t["trail"][:, -1, 1:]
        distance = np.maximum(np.hypot(*mark.T), 1.0)[:, None]
        # Range is sharp; the edge of a body falls between two columns, and so jitters with distance.
        noise = 0.08 + (0.05 + 0.015 * distance) * np.abs(mark[:, ::-1]) / distance
        # A person near the lane is worth a doubt.
        doubt = np.where(t["extent"] < self.config.person, 1.3, 2.0)[:, None]
        velocity = np.where(np.abs(drift) > doubt * np.maximum(noise, left) / np.sqrt(spread), drift, 0.0)
        # Two bodies taken for one jump; a wall shows ever other parts: neither moves.
        steady = (left < 0.25 + 0.02 * distance).all(1) & (count[:, 0] >= np.where(np.hypot(*drift.T) < 3.0, 3, 4))
        moves = steady & (t["extent"] < self.config.wall) & (now is None or self._moves(now))
        velocity[~moves] = 0.0
        told = t["heard"] & (t["echo"][:, 0] > 0.3)
        velocity[told, 0] = ((t["echo"][:, 2] - velocity[:, 1] * t["echo"][:, 1]) / t["echo"][:, 0])[told]
        new = told & (count[:, 0] < 2)
        t["drift"][new] = (t["echo"][:, 2:] * t["echo"][:, :2])[new]
        velocity *= np.hypot(*velocity.T)[:, None] > 0.4
        # What is out of sight is believed to go on as it was last seen.
        t["velocity"] = np.where(t["missed"][:, None] > 0, t["velocity"], velocity)
