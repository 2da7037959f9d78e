"""Who directs traffic: a track and a snapshot in, the gesture that counts for the ego out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drivebyword.core.records import AgentKind, Lights, Snapshot
from drivebyword.world.paths import Track

SIGHT = 50.0
"""Metres at which a gesture can be told."""
ASIDE = 9.0
"""Metres beside the way up to which somebody speaks to it."""
_DIRECTS = (int(AgentKind.OFFICER), int(AgentKind.FLAGGER))


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """What a police officer or a flagger tells the ego."""

    at: float
    """Arc length of where they stand."""
    stop: bool
    """Stop; else go, slowly past a flagger."""
    slowly: bool


def find_direction(track: Track, s: float, snapshot: Snapshot) -> Direction | None:
    """Return what the nearest of those who look at the ego says; None where nobody does."""
    found: list[Direction] = []
    for k in np.flatnonzero(np.isin(snapshot.agent_kind, _DIRECTS)):
        x, y, yaw = (float(v) for v in snapshot.agents[k, :3])
        if np.hypot(x - snapshot.ego[0], y - snapshot.ego[1]) > SIGHT:
            continue
        at, aside, heading = track.locate(x, y, s, back=4.0, ahead=SIGHT + 10.0)
        gesture = int(snapshot.agent_lights[k])
        if at < s or abs(aside) > ASIDE or np.cos(yaw - heading) > -0.3 or not gesture & (Lights.STOP | Lights.GO):
            continue
        flagger = int(snapshot.agent_kind[k]) == int(AgentKind.FLAGGER)
        found.append(Direction(at=at, stop=bool(gesture & Lights.STOP), slowly=flagger))
    return min(found, key=lambda direction: direction.at, default=None)
