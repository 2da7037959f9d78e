"""What a family asks of a driver besides no harm: one moment after another in, the first breach out.

Like a beat's condition, an ask is a small function that families compose: `stage.ask(slower(8.3, start, end))`. What
it says is for people; that it says anything is what metrics count. Margins a hair wide keep rounding from counting.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from drivebyword.core.geometry import box_corners, boxes_overlap
from drivebyword.core.records import Lights
from drivebyword.world.careful import avoids

EXCESS = 0.3
"""m/s by which a speed that is asked for may be exceeded: no more than a speedometer's error."""
STANDS = 0.3
"""m/s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instant:
    """One moment, as an ask sees it."""

    time_s: float
    s: float
    """Arc length of the ego's front bumper on the stage's way."""
    aside: float
    """Metres the ego's rear axle is beside the way's middle, away from the kerb."""
    speed: float
    accel: float
    """The ego's, m/s2 along its heading."""
    box: Float[np.ndarray, " 5"]
    """The ego's body: centre x, y, yaw, length, width."""
    them: dict[str, Float[np.ndarray, " 9"]]
    """The snapshot's rows of the actors who are there, by name."""
    lights: dict[str, int]
    since_s: float
    """Seconds since the event began."""


Ask = Callable[[Instant], str | None]


def slower(speed: float, start: float, end: float) -> Ask:
    """At most so many m/s while the front bumper is between two places of the way."""

    def ask(now: Instant) -> str | None:
        fast = start <= now.s <= end and now.speed > speed + EXCESS
        return f"{now.speed:.1f} m/s where {speed:.1f} is asked" if fast else None

    return ask


def stops_within(sight: float) -> Ask:
    """At a speed from which UN R157's careful driver stops within what can be seen."""

    def ask(now: Instant) -> str | None:
        blind = not avoids(max(now.speed - EXCESS, 0.0), sight)
        return f"{now.speed:.1f} m/s with {sight:.0f} m of sight" if blind else None

    return ask


def keeps_gap(metres: float) -> Ask:
    """So many metres of air to every actor, while the ego moves."""

    def ask(now: Instant) -> str | None:
        gap = min((distance(now.box, them[:5]) for them in now.them.values()), default=np.inf)
        near = now.speed > STANDS and gap < metres - 0.01
        return f"{gap:.2f} m of air where {metres:.2f} are asked" if near else None

    return ask


def stops_short(metres: float) -> Ask:
    """So many metres of air to every actor where the ego stands."""

    def ask(now: Instant) -> str | None:
        gap = min((distance(now.box, them[:5]) for them in now.them.values()), default=np.inf)
        near = now.speed < STANDS and gap < metres - 0.01
        return f"stood {gap:.2f} m short where {metres:.2f} are asked" if near else None

    return ask


def leaves_time(seconds: float) -> Ask:
    """Whoever comes to where the ego has been comes so much later: a post-encroachment time."""
    been: deque[tuple[float, Float[np.ndarray, " 5"]]] = deque()

    def ask(now: Instant) -> str | None:
        been.append((now.time_s, now.box))
        while been[0][0] <= now.time_s - seconds + 1e-6:
            been.popleft()
        boxes = np.stack([box for _, box in been])
        for them in now.them.values():
            met = boxes_overlap(them[:5], boxes) if np.hypot(*them[6:8]) > STANDS else np.zeros(len(boxes), bool)
            if met.any():
                return f"somebody came {now.time_s - been[int(np.flatnonzero(met)[-1])][0]:.1f} s after the ego"
        return None

    return ask


def keeps_time_gap(seconds: float) -> Ask:
    """The ego comes to where somebody has been so much later: a time gap behind them."""
    been: deque[tuple[float, Float[np.ndarray, " 5"]]] = deque()

    def ask(now: Instant) -> str | None:
        while been and been[0][0] <= now.time_s - seconds + 1e-6:
            been.popleft()
        late = [time for time, box in been if now.speed > STANDS and boxes_overlap(now.box, box[None]).any()]
        been.extend((now.time_s, them[:5]) for them in now.them.values())
        return f"{now.time_s - late[-1]:.1f} s behind" if late else None

    return ask


def holds(line: float, name: str) -> Ask:
    """The front bumper does not pass a place of the way while somebody shows stop."""
    before: list[float] = []

    def ask(now: Instant) -> str | None:
        passed = bool(before) and before[-1] <= line < now.s
        before.append(now.s)
        return f"passed {name}, who showed stop" if passed and now.lights.get(name, 0) & Lights.STOP else None

    return ask


def makes_way(seconds: float, aside: float) -> Ask:
    """So long after the event, the ego is so many metres nearer the kerb than the way's middle until they are past."""

    def ask(now: Instant) -> str | None:
        behind = any(_behind(now.box, them) for them in now.them.values())
        late = now.since_s > seconds and behind and now.aside > -aside
        return f"in the way after {now.since_s:.0f} s" if late else None

    return ask


def keeps_lane(room: float) -> Ask:
    """The ego's rear axle stays within so many metres of its lane's middle."""

    def ask(now: Instant) -> str | None:
        return f"{now.aside:+.2f} m beside the lane's middle" if abs(now.aside) > room else None

    return ask


def brakes_as_needed(most: float) -> Ask:
    """No braking harder than `most` m/s2 where that would do."""

    def ask(now: Instant) -> str | None:
        gap = min((distance(now.box, them[:5]) for them in now.them.values()), default=np.inf)
        hard = -now.accel > most + EXCESS and now.speed**2 < 2 * most * (gap - 1.0)
        return f"braked with {-now.accel:.1f} m/s2 {gap:.0f} m behind" if hard else None

    return ask


def distance(one: Float[np.ndarray, " 5"], other: Float[np.ndarray, " 5"]) -> float:
    """Return metres of air between two boxes (centre x, y, yaw, length, width); 0 where they touch."""
    if boxes_overlap(one, other[None]).any():
        return 0.0
    return min(_corner_gap(one, other), _corner_gap(other, one))


def _corner_gap(one: Float[np.ndarray, " 5"], other: Float[np.ndarray, " 5"]) -> float:
    """Return metres from one box's nearest corner to the other box."""
    corners = box_corners(*one) - other[:2]
    cos, sin = np.cos(other[2]), np.sin(other[2])
    along = np.abs(corners[:, 0] * cos + corners[:, 1] * sin) - other[3] / 2
    across = np.abs(corners[:, 1] * cos - corners[:, 0] * sin) - other[4] / 2
    return float(np.hypot(np.maximum(along, 0.0), np.maximum(across, 0.0)).min())


def _behind(box: Float[np.ndarray, " 5"], them: Float[np.ndarray, " 9"]) -> bool:
    """Tell whether somebody's front has not yet reached the ego's front."""
    along = (them[0] - box[0]) * np.cos(box[2]) + (them[1] - box[1]) * np.sin(box[2])
    return bool(along + them[3] / 2 < box[3] / 2)
