"""Others' reflexes: the ego and the agents around it in, who is about to drive into it out.

SUMO's vehicles keep to lanes, gaps and right of way, and see nothing else: one that has the right of way
would drive into a car that stands across its path. Real drivers brake.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from jaxtyping import Bool, Float
from numba import njit

from drivebyword.world.events import apart

NEAR = 25.0
MARGIN = 0.2
"""Metres of air that count as contact."""
SAME_WAY = 0.3
"""Radians of heading within which SUMO's own car-following does the work."""
LEAST_SPEED = 1.0
"""m/s assumed of who stands: pulling off into the ego is foreseen too."""


@njit(cache=True)
@no_type_check
def _about_to_hit(ego, speed, yaw_rate, agents):  # type: ignore[no-untyped-def]
    """Tell whose front sweeps the ego within its stopping time; both keep speed and yaw rate."""
    found = np.zeros(agents.shape[0], np.bool_)
    for k in range(agents.shape[0]):
        dx, dy = ego[0] - agents[k, 0], ego[1] - agents[k, 1]
        if dx * dx + dy * dy > NEAR * NEAR:
            continue
        yaw = agents[k, 2]
        turned = abs((yaw - ego[2] + np.pi) % (2 * np.pi) - np.pi)
        if dx * np.cos(yaw) + dy * np.sin(yaw) <= 0.0 or turned < SAME_WAY:
            continue
        pace = max(LEAST_SPEED, np.sqrt(agents[k, 6] ** 2 + agents[k, 7] ** 2))
        horizon = 0.25 + pace / 8.0
        ax, ay, ex, ey, eyaw = agents[k, 0], agents[k, 1], ego[0], ego[1], ego[2]
        step = 0.1
        for _ in range(int(horizon / step)):
            ax, ay, yaw = ax + pace * np.cos(yaw) * step, ay + pace * np.sin(yaw) * step, yaw + agents[k, 8] * step
            ex, ey, eyaw = ex + speed * np.cos(eyaw) * step, ey + speed * np.sin(eyaw) * step, eyaw + yaw_rate * step
            if not apart(
                ex, ey, eyaw, ego[3] + 2 * MARGIN, ego[4] + 2 * MARGIN, ax, ay, yaw, agents[k, 3], agents[k, 4]
            ):
                found[k] = True
                break
    return found


def about_to_hit(
    box: Float[np.ndarray, " 5"], speed: float, yaw_rate: float, agents: Float[np.ndarray, "M 9"]
) -> Bool[np.ndarray, " M"]:
    """Tell which agents would drive into the ego's box (centre x, y, yaw, length, width) if they did not brake."""
    return _about_to_hit(box, speed, yaw_rate, agents)
