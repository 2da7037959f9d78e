"""Cyclists who cross a street between junctions: a track and the agents in, where to wait for them out.

Whoever threads through a flow of them aims at the gap behind one and meets the next: a driver waits until the car
fits through with time to spare on both sides.
"""

from __future__ import annotations

import numpy as np

from drivebyword.core.kinematics import CarConfig
from drivebyword.core.records import AgentKind, Snapshot
from drivebyword.world.paths import Track

SIGHT = 60.0
"""Metres ahead within which they are looked for."""
CROSSES = 0.5
"""Cosine of the angle to the way below which somebody crosses it."""
SPARE_S = 1.0
"""Seconds left free before and after each of them."""
AIR = 0.5
"""Metres beside the car that are taken as its way too."""
SHORT = 2.5
"""Metres before their way to wait at."""
LEAST_PACE = 3.0
"""m/s assumed of a car that moves off."""
FIRM = 4.0
"""m/s2 above which the car rather goes on."""


def find_flow(track: Track, s: float, speed: float, snapshot: Snapshot, car: CarConfig) -> float | None:
    """Return the arc length at which the front bumper waits for crossing cyclists; None where the car may go."""
    front, found = s + car.front, []
    for k in np.flatnonzero(snapshot.agent_kind == int(AgentKind.BICYCLE)):
        x, y, _, length, width, _, vx, vy = (float(v) for v in snapshot.agents[k, :8])
        pace = float(np.hypot(vx, vy))
        if pace < 0.3 or np.hypot(x - snapshot.ego[0], y - snapshot.ego[1]) > SIGHT:
            continue
        at, aside, heading = track.locate(x, y, s, back=10.0, ahead=SIGHT + 10.0)
        across = vy * np.cos(heading) - vx * np.sin(heading)
        if abs(vx * np.cos(heading) + vy * np.sin(heading)) > CROSSES * pace or track.span_at(at).link is not None:
            continue
        half = (car.width + length) / 2 + AIR
        comes_s, leaves_s = (-aside / across - half / abs(across), -aside / across + half / abs(across))
        room, moving = at - width / 2 - AIR - front, max(speed, LEAST_PACE)
        past_s = (room + width + 2 * AIR + car.length) / moving
        meets = leaves_s > 0.0 and comes_s < past_s + SPARE_S and leaves_s > room / moving - SPARE_S
        if meets and room > 0.0 and speed * speed < 2 * FIRM * max(room, 0.3):
            found.append(at - width / 2 - SHORT)
    return min(found, default=None)
