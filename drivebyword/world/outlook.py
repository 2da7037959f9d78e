"""What holds the expert back, and what it says about it: the coming second's limits in, a Reason out."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, pi

import numpy as np
from jaxtyping import Float

from drivebyword.core.kinematics import CarState
from drivebyword.core.records import CAUSES, DECISIONS, RELATIONS, Reason
from drivebyword.world.caution import Ahead
from drivebyword.world.paths import Track


@dataclass(slots=True, kw_only=True)
class Limit:
    """One thing that holds the car back."""

    cause: str
    relation: str
    stop: float = inf
    """Arc length for the front bumper to stop at."""
    slack: float = 0.0
    """Metres past `stop` that do no harm."""
    leader: Ahead | None = None
    row: int | None = None
    """Of the agent that is the limit."""
    accel: float = inf
    """Fixed: held while it lasts."""
    stops: bool = True
    """Ends in standing, as opposed to slowing."""


@dataclass(slots=True, kw_only=True)
class Outlook:
    """What the controller follows for the next second."""

    track: Track
    start: float
    """The rear axle's arc length now."""
    speeds: Float[np.ndarray, "2 P"]
    limits: list[Limit]
    cap: float
    """Speed never exceeded."""


def reason_of(
    state: CarState,
    front: float,
    outlook: Outlook,
    act: Float[np.ndarray, "F 3"],
    pace: list[float],
    first: float,
    limit: Limit | None,
    changing: str | None,
) -> Reason:
    """Say what is done and what decides it; taken from the act itself, so that the two agree.

    Args:
        state: The car now.
        front: Metres from the rear axle to the front bumper.
        outlook: What the controller follows.
        act: The coming triples.
        pace: Speeds after each of them.
        first: The acceleration wanted now.
        limit: What set it; None: nothing, or a curve.
        changing: left or right while on the way into another lane.
    """
    losing = pace[len(act) - 1] < state.speed - 0.25 or (state.speed > 0.3 and act[:, 2].mean() > 0.02)
    standing = state.speed < 0.3 and act[0, 1] < 0.02
    cause, relation = (limit.cause, limit.relation) if limit is not None else ("clear", "ahead")
    if standing:
        return _reason("wait", cause if limit is not None else "instruction", relation if limit is not None else "here")
    if limit is not None and losing and limit.stops:
        return _reason("stop", cause, relation)
    turn = _turning(state, front, outlook)
    if turn is not None:
        return _reason(turn[0], "instruction", turn[1])
    if changing is not None:
        return _reason(f"change_{changing}", "instruction", changing)
    if losing:
        if limit is not None:
            return _reason("slow", cause, relation)
        curved = _curve_decides(outlook)
        return _reason("slow", "curve", "ahead") if curved else _reason("slow", "instruction", "here")
    if limit is not None and limit.leader is not None and first < 0.8:
        return _reason("go", cause, relation)
    return _reason("go", "clear", "ahead")


def _turning(state: CarState, front: float, outlook: Outlook) -> tuple[str, str] | None:
    """Return (decision, relation) while turning through a junction or about to."""
    track, s = outlook.track, outlook.start
    for span in track.links_ahead(s)[:1]:
        if span.link is None or span.link.direction not in ("left", "right"):
            return None
        if s + front < span.start - 1.5 * max(state.speed, 2.0):
            return None
        left = (track.heading_at(span.end + 2.0) - state.yaw + pi) % (2 * pi) - pi
        sign = 1.0 if span.link.direction == "left" else -1.0
        if left * sign < 0.2:
            return None
        return f"turn_{span.link.direction}", "in_junction" if s + front > span.start else "junction_ahead"
    return None


def _curve_decides(outlook: Outlook) -> bool:
    """Tell whether a curve, not the cruising speed, makes the car slow down."""
    arc, allowed = outlook.speeds
    here = float(np.interp(outlook.start, arc, allowed))
    k = int(np.argmin(allowed))
    return bool(
        here < outlook.cap - 0.5 and abs(outlook.track.curvature[np.searchsorted(outlook.track.s, arc[k])]) > 0.01
    )


def _reason(decision: str, cause: str, relation: str) -> Reason:
    return Reason(DECISIONS.index(decision), CAUSES.index(cause), RELATIONS.index(relation))
