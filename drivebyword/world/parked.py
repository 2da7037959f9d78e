"""How fast past parked vehicles that may hide somebody: a track and the agents in, a speed out."""

from __future__ import annotations

from math import inf, sqrt

import numpy as np

from drivebyword.core.kinematics import CarConfig
from drivebyword.core.records import PEOPLE, THINGS, Snapshot
from drivebyword.world.careful import PAST_PARKED
from drivebyword.world.graph import RoadGraph
from drivebyword.world.paths import Track

SIGHT = 60.0
"""Metres ahead within which parked vehicles are looked for."""
NEAR = 1.5
"""Metres between the car's side and a parked vehicle within which somebody could step out right before the car."""
LIVED_IN = 50 / 3.6
"""m/s: where more is allowed, nobody is expected on foot."""
SETTLED = 8.0
"""Metres before them from which it is reached."""
EASE = 1.2
"""m/s2 with which the car slows down for them."""


def pace_past(track: Track, s: float, snapshot: Snapshot, car: CarConfig, graph: RoadGraph) -> float:
    """Return the speed for here that leaves PAST_PARKED beside vehicles parked off the lanes; inf without any."""
    if float(np.interp(s, track.s, track.limit)) > LIVED_IN + 0.1:
        return inf
    them = snapshot.agents
    still = (np.hypot(them[:, 6], them[:, 7]) < 0.2) & ~np.isin(snapshot.agent_kind, (*PEOPLE, *THINGS))
    near = still & (np.hypot(them[:, 0] - snapshot.ego[0], them[:, 1] - snapshot.ego[1]) < SIGHT)
    rows = np.flatnonzero(near)
    if not len(rows):
        return inf
    rows = rows[~graph.is_drivable(them[rows, :2].astype(np.float64))]
    pace, front = inf, s + car.front
    for x, y, _, length, width in them[rows, :5].tolist():
        at, aside, _ = track.locate(x, y, s, back=10.0, ahead=SIGHT + 10.0)
        air = abs(aside) - (width + car.width) / 2
        # Somebody may come round its far end: slow until the car's nose is past that.
        if air < NEAR and at + length / 2 + 1.0 > front:
            room = max(at - length / 2 - front - SETTLED, 0.0)
            pace = min(pace, sqrt(PAST_PARKED**2 + 2 * EASE * room))
    return pace
