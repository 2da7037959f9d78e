"""What matters ahead: what the expert sees on its way in, the affordances of a frame out.

Affordances (Chen et al., DeepDriving, 2015) are the few quantities an act hangs on. They cost nothing to record,
and a network that must name them learns to see what it would otherwise have to guess from rare braking.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

import numpy as np
from jaxtyping import Float32

from drivebyword.core.records import AFFORDANCES, SignalState
from drivebyword.world.caution import Ahead, Conflict
from drivebyword.world.directing import Direction
from drivebyword.world.traffic import SpeedPlan

SIGNAL_SIGHT = 60.0
"""Metres up to which a lamp is some pixels wide in the tele camera."""
_OPEN = (int(SignalState.GREEN), int(SignalState.DARK))


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalOnWay:
    """The next signal on the way."""

    colour: int
    room: float
    """Metres from the front bumper to its stop line."""
    line: float
    """Arc length of the stop line."""
    lane: str
    """The lane it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What the way ahead holds."""

    signal: SignalOnWay | None
    leader: Ahead | None
    conflict: Conflict | None
    direction: Direction | None
    """What a police officer or a flagger tells the ego."""
    line: float | None
    """Arc length of the end of the lane before the next junction, while the car has not passed it."""
    gap: float | None
    """Arc length to wait at while the gap in the oncoming traffic is too small for a turn across."""
    person: str | None
    """Where somebody walks on the road near the way."""
    junction: float | None
    """Metres from the front bumper to the next junction; 0 inside."""


def affordances(sight: Sight, speed: float, plan: SpeedPlan, dt: float) -> Float32[np.ndarray, " A"]:
    """Return AFFORDANCES, each in [0, 1]: a thing is there, or how near it is (1 here, 0 far or not at all)."""
    values = dict.fromkeys(AFFORDANCES, 0.0)
    signal, leader, conflict = sight.signal, sight.leader, sight.conflict
    if signal is not None and signal.room < SIGNAL_SIGHT:
        values["green_light" if signal.colour in _OPEN else "red_light"] = 1.0
        values["stop_line"] = exp(-max(signal.room, 0.0) / 20)
    if sight.junction is not None:
        values["junction"] = exp(-sight.junction / 15)
    if leader is not None:
        gap = max(leader.gap, 0.5)
        values["leader"] = exp(-gap / 12)
        values["closing"] = min(1.0, max(speed - leader.speed, 0.0) ** 2 / (2 * gap) / 3)
    if conflict is not None:
        values["person_crossing" if conflict.person else "crossing"] = exp(-conflict.distance / 10)
    values["person"] = float(sight.person is not None)
    values["yield"] = min(1.0, max(speed - plan.speed, 0.0) / dt / 3)
    return np.array([values[name] for name in AFFORDANCES], np.float32)
