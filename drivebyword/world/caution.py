"""Who is in the way: a track and a snapshot's agents in, the leader and the first conflict out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from drivebyword.core.geometry import resample
from drivebyword.core.kinematics import CarConfig
from drivebyword.core.records import PEOPLE, Snapshot
from drivebyword.world.foresight import Foresight, Future
from drivebyword.world.paths import SPACING, Track

SIGHT = 80.0
"""Metres: nobody farther away counts, since no sensor of the student sees them."""
MARGIN_VEHICLE, MARGIN_PERSON, MARGIN_STANDING = 0.15, 0.4, 0.05
DRIFT, MERGE_S = 0.3, 1.6
"""m/s sideways from which somebody is moving over, and for how many seconds ahead that is believed."""
STEP, HORIZON = 0.25, 3.25
DISCS, TAIL_DISCS = 6, 2
"""The ego's body is taken as this many discs in a row, of which so many are its tail."""
CROSSING, CROSSING_S = 0.5, 5.0
"""Cosine of the angle between two ways below which they cross, and seconds of the other way that are kept free."""
GAP_HORIZON, PULL_AWAY, SPARE_S, SHARED = 8.0, 1.1, 1.5, 2.5
"""Turning across oncoming traffic: seconds of others' way looked at; m/s2 with which the car leaves; seconds it wants
to spare; metres between two ways' middles within which only one can pass."""
TAIL_S = 1.3
"""Seconds ahead within which a car clears a place faster than it stops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """Somebody on the ego's way."""

    row: int
    """In the snapshot's agents."""
    gap: float
    """Metres from the front bumper to them, along the track."""
    speed: float
    """Theirs along the track."""
    person: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A collision to come if nobody changes their mind."""

    row: int
    distance: float
    """Metres the ego may still travel."""
    time_s: float
    person: bool
    side: str
    """Where they come from: left, right or ahead."""


def find_leader(track: Track, s: float, snapshot: Snapshot, car: CarConfig) -> Ahead | None:
    """Return the nearest agent on the track's corridor that stands or moves along it."""
    agents = snapshot.agents
    near = np.hypot(agents[:, 0] - snapshot.ego[0], agents[:, 1] - snapshot.ego[1]) < SIGHT
    if not near.any():
        return None
    rows = np.flatnonzero(near)
    low = int(np.searchsorted(track.s, s - 2.0))
    line = track.line[low : int(np.searchsorted(track.s, s + SIGHT)) : 2]
    arc, heading = track.s[low:][: 2 * len(line) : 2], track.heading[low:][: 2 * len(line) : 2]
    if not len(line):
        return None
    them = agents[rows]
    dx, dy = them[:, :1] - line[:, 0], them[:, 1:2] - line[:, 1]
    k = np.argmin(dx * dx + dy * dy, axis=1)
    pick = np.arange(len(rows))
    cos, sin = np.cos(heading[k]), np.sin(heading[k])
    along = dx[pick, k] * cos + dy[pick, k] * sin
    aside = np.abs(dy[pick, k] * cos - dx[pick, k] * sin)
    turn = np.abs((them[:, 2] - heading[k] + np.pi) % (2 * np.pi) - np.pi)
    across = np.minimum(turn, np.pi - turn)
    half_width = (them[:, 4] * np.cos(across) + them[:, 3] * np.sin(across)) / 2
    half_length = (them[:, 3] * np.cos(across) + them[:, 4] * np.sin(across)) / 2
    gap = arc[k] + along - s - car.front - half_length
    speed = them[:, 6] * cos + them[:, 7] * sin
    moving = np.hypot(them[:, 6], them[:, 7])
    person = np.isin(snapshot.agent_kind[rows], PEOPLE)
    corridor = car.width / 2 + half_width + np.where(person, 0.3, 0.1)
    inside = aside < corridor
    # Who is moving over into the corridor counts as in it already.
    across_m = dy[pick, k] * cos - dx[pick, k] * sin
    drift = them[:, 7] * cos - them[:, 6] * sin
    merging = (np.abs(drift) > DRIFT) & (turn < 0.35) & (moving > 2.0) & ~person
    inside |= merging & (np.abs(across_m + drift * MERGE_S) < corridor)
    # Crossing or oncoming traffic is judged by where it will be, not by where it is.
    settled = (turn < 0.9) | (moving < 0.5)
    ahead = inside & settled & (gap > -2.5) & (np.abs(along) < 2.0) & (arc[k] + along > s + 1.5)
    if not ahead.any():
        return None
    first = int(np.flatnonzero(ahead)[np.argmin(gap[ahead])])
    return Ahead(
        row=int(rows[first]), gap=float(gap[first]), speed=max(0.0, float(speed[first])), person=bool(person[first])
    )


def find_conflict(
    track: Track, s: float, speed: float, snapshot: Snapshot, car: CarConfig, foresight: Foresight
) -> Conflict | None:
    """Sweep the ego along its track against everybody's future."""
    agents = snapshot.agents
    accelerations = foresight.accelerations(snapshot)
    ego_x, ego_y, ego_yaw = snapshot.ego[:3]
    cos, sin = np.cos(ego_yaw), np.sin(ego_yaw)
    dx, dy = agents[:, 0] - ego_x, agents[:, 1] - ego_y
    ahead, aside = dx * cos + dy * sin, dy * cos - dx * sin
    pace = np.hypot(agents[:, 6], agents[:, 7])
    reach = np.minimum(10.0 + speed * HORIZON + (pace + 1.0) * HORIZON, SIGHT)
    # Whoever follows in the ego's own lane keeps clear of it himself.
    concerns = (ahead > 0.0) | ((ahead + agents[:, 3] / 2 > -1.0) & (np.abs(aside) > 1.6))
    rows = np.flatnonzero((np.hypot(dx, dy) < reach) & concerns)
    if not len(rows):
        return None
    times = np.arange(0.0, HORIZON + 1e-6, STEP)
    creep = 1.0 if speed < 2.0 else 0.0
    run = s + speed * times + 0.5 * creep * times**2
    future = foresight.predict(snapshot, rows, accelerations, times)
    gaps = _disc_gaps(track, run, future, agents[rows], car)
    distance = gaps.min(axis=2)
    person = np.isin(snapshot.agent_kind[rows], PEOPLE)
    # Who walks along the road keeps beside it; who walks across does not.
    across = np.abs(np.sin(agents[rows, 2] - track.heading_at(s)))
    wide = MARGIN_VEHICLE + (MARGIN_PERSON - MARGIN_VEHICLE) * across
    margin = np.where(pace[rows] < 0.3, MARGIN_STANDING, np.where(person, wide, MARGIN_VEHICLE))
    # Beside somebody who stands one may go on, as long as one does not come nearer.
    margin = np.where(pace[rows] < 0.3, np.minimum(margin, distance[0] - 0.03), margin)
    hit = distance < margin
    # Whoever would meet the tail in a moment is best left behind: braking would put the car in their way.
    begins = hit.argmax(axis=0)
    struck = gaps[begins, np.arange(len(rows))].argmin(axis=1)
    passed = (struck < TAIL_DISCS) & (times[begins] < TAIL_S) & ~person & (pace[rows] > 1.0)
    hit &= ~(passed & (speed > 1.0))
    if not hit.any():
        return None
    first = int(np.argmax(hit.any(axis=1)))
    row = int(np.argmin(np.where(hit[first], distance[first], np.inf)))
    bearing = np.arctan2(aside[rows[row]], ahead[rows[row]])
    distance_m = float(run[first] - s)
    crosses = np.cos(future.yaw[first, row] - track.heading_at(float(run[first]))) < CROSSING
    if crosses and not person[row] and pace[rows[row]] > 0.3:
        distance_m = _room_before(track, s, distance_m, snapshot, rows[row : row + 1], car, foresight)
    return Conflict(
        row=int(rows[row]),
        distance=distance_m,
        time_s=float(times[first]),
        person=bool(person[row]),
        side="ahead" if abs(bearing) < 0.26 else ("left" if bearing > 0 else "right"),
    )


def _room_before(
    track: Track, s: float, most: float, snapshot: Snapshot, row: np.ndarray, car: CarConfig, foresight: Foresight
) -> float:
    """Return the metres the ego may travel without entering the way of somebody who crosses; `most` where it is in it.

    Where the two would meet at their present speeds is not where to wait: a slower ego meets them earlier on.
    """
    times = np.arange(0.0, CROSSING_S, STEP)
    future = foresight.predict(snapshot, row, foresight.accelerations(snapshot), times)
    them = np.repeat(snapshot.agents[row], len(times), axis=0)
    steps = np.arange(0.0, max(most, 0.0) + 0.25, 0.5)
    every = Future(
        x=np.repeat(future.x.T, len(steps), axis=0),
        y=np.repeat(future.y.T, len(steps), axis=0),
        yaw=np.repeat(future.yaw.T, len(steps), axis=0),
    )
    entered = np.asarray((body_clearance(track, s + steps, every, them, car) < MARGIN_VEHICLE).any(axis=1))
    return most if entered[0] or not entered.any() else min(most, float(steps[int(np.argmax(entered))]))


def find_gap(
    track: Track, s: float, speed: float, snapshot: Snapshot, car: CarConfig, foresight: Foresight, dark: bool = False
) -> float | None:
    """Return where to wait before a turn across somebody oncoming who would be there less than SPARE_S after.

    SUMO's vehicles slow down for who takes a small gap before them; real ones may not. Where the signals are `dark`,
    the same holds for whoever crosses.
    """
    front = s + car.front
    span = next((span for span in track.links_ahead(s) if span.link is not None), None)
    turn_across = foresight.graph.road_map.far_side
    if span is None or span.link is None or not (dark or span.link.direction == turn_across):
        return None
    # Once in the junction it goes on as SUMO plans: who waits in the middle waits in everybody's way.
    if not -0.5 < span.start - front < 20.0:
        return None
    way = track.heading_at(max(span.start - 2.0, 0.0))
    them = snapshot.agents
    pace = np.hypot(them[:, 6], them[:, 7])
    ahead = (them[:, 0] - snapshot.ego[0]) * np.cos(way) + (them[:, 1] - snapshot.ego[1]) * np.sin(way)
    facing = np.cos(them[:, 2] - way)
    meets = (facing < -0.5) & (span.link.direction == turn_across) | (np.abs(facing) < 0.7) & dark
    comes = meets & (pace > 4.0) & (ahead > 0.0)
    rows = np.flatnonzero(comes & ~np.isin(snapshot.agent_kind, PEOPLE))
    if not len(rows):
        return None
    times = np.arange(0.0, GAP_HORIZON, 0.25)
    future = foresight.predict(snapshot, rows, foresight.accelerations(snapshot), times)
    inside = (track.s > max(span.start - 2.0, s)) & (track.s < span.end + 2.0)
    line, arc = track.line[inside][::2], track.s[inside][::2]
    if not len(line):
        return None
    for k in range(len(rows)):
        near = np.hypot(future.x[:, k, None] - line[:, 0], future.y[:, k, None] - line[:, 1]) < SHARED
        if not near.any():
            continue
        shared = np.flatnonzero(near.any(axis=0))
        leaves = float(arc[shared[-1]])
        there_s = float(times[int(np.argmax(near.any(axis=1)))])
        room = leaves + car.rear_overhang - s
        clear_s = (np.sqrt(speed**2 + 2 * PULL_AWAY * room) - speed) / PULL_AWAY
        if there_s < clear_s + SPARE_S:
            return span.start - 0.7
    return None


def body_clearance(
    track: Track, run: Float[np.ndarray, " T"], future: Future, them: Float[np.ndarray, "M 9"], car: CarConfig
) -> Float[np.ndarray, "T M"]:
    """Return metres between the ego's body (discs along the track) and each agent's box, over time."""
    return _disc_gaps(track, run, future, them, car).min(axis=2)


def _disc_gaps(
    track: Track, run: Float[np.ndarray, " T"], future: Future, them: Float[np.ndarray, "M 9"], car: CarConfig
) -> Float[np.ndarray, "T M K"]:
    """Return metres between every disc of the ego's body, tail first, and each agent's box, over time."""
    radius = float(np.hypot(car.width / 2, car.length / (2 * DISCS)))
    x = np.interp(run, track.s, track.line[:, 0])
    y = np.interp(run, track.s, track.line[:, 1])
    heading = np.interp(run, track.s, track.heading)
    beyond = np.maximum(run - track.s[-1], 0.0)
    x, y = x + beyond * np.cos(heading), y + beyond * np.sin(heading)
    along = (np.arange(DISCS) + 0.5) * car.length / DISCS - car.rear_overhang
    disc_x = x[:, None] + along * np.cos(heading)[:, None]
    disc_y = y[:, None] + along * np.sin(heading)[:, None]
    gx, gy = disc_x[:, None] - future.x[:, :, None], disc_y[:, None] - future.y[:, :, None]
    cos, sin = np.cos(future.yaw)[:, :, None], np.sin(future.yaw)[:, :, None]
    out_x = np.maximum(np.abs(gx * cos + gy * sin) - them[:, 3:4] / 2, 0.0)
    out_y = np.maximum(np.abs(gy * cos - gx * sin) - them[:, 4:5] / 2, 0.0)
    return np.hypot(out_x, out_y) - radius


def lane_is_free(
    line: Float[np.ndarray, "P 2"], width: float, snapshot: Snapshot, car: CarConfig, strict: bool = True
) -> bool:
    """Tell whether a neighbouring lane has room for the ego beside, ahead and behind.

    Not `strict` asks only whether a change already begun can go on.
    """
    agents = snapshot.agents
    if not len(agents):
        return True
    x, y, yaw, speed = snapshot.ego[:4]
    dx, dy = agents[:, 0] - x, agents[:, 1] - y
    forward = dx * np.cos(yaw) + dy * np.sin(yaw)
    near = np.flatnonzero(np.hypot(dx, dy) < 60.0)
    if not len(near):
        return True
    them = agents[near]
    gap = np.sqrt(((them[:, None, :2] - line) ** 2).sum(2)).min(1)
    on_lane = gap < width / 2 + them[:, 4] / 2 - 0.2
    pace = them[:, 6] * np.cos(yaw) + them[:, 7] * np.sin(yaw)
    centre = forward[near] - (car.length / 2 - car.rear_overhang)
    room = np.abs(centre) - (them[:, 3] + car.length) / 2
    front = np.maximum(4.0, 0.6 * speed + 1.2 * (speed - pace))
    rear = np.maximum(4.0, 0.5 * pace + 1.8 * (pace - speed))
    if not strict:
        front, rear = np.full_like(room, 0.5), np.maximum(1.0, 1.2 * (pace - speed))
    blocked = on_lane & (room < np.where(centre > 0, front, rear))
    return not blocked.any()


def dense(line: Float[np.ndarray, "P 2"], back: float = 30.0) -> Float[np.ndarray, "Q 2"]:
    """Return a lane's line with points close enough to measure distances to, run on backwards.

    Who is still in the junction behind will be on the lane in a moment.
    """
    away = line[0] - line[1]
    start = line[0] + away / max(np.hypot(*away), 1e-9) * back
    return resample(np.concatenate([start[None], line]), 2 * SPACING)
