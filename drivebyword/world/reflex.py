"""Others' reflexes: the ego and the vehicles around it in, orders to SUMO out.

SUMO's vehicles keep to lanes, gaps and right of way, and see nothing else: one that has the right of way
would drive into a car that stands across its path, and one that thinks it is the ego's turn would stand in
the ego's way for ever. Real drivers brake, and real drivers go when nobody else does.
"""

from __future__ import annotations

from typing import Any, no_type_check

import numpy as np
from jaxtyping import Bool, Float
from numba import njit

from drivebyword.world.demand import EGO
from drivebyword.world.events import apart

NEAR = 25.0
MARGIN = 0.2
"""Metres of air that count as contact."""
SAME_WAY, SAME_LANE = 0.3, 1.0
"""Radians of heading and metres aside within which SUMO's own car-following does the work, if it sees the ego."""
HOLD_S = 0.8
"""Seconds for which who brakes goes on braking: nobody speeds up the moment a collision seems just avoided."""
BRAKING = 4.0
"""m/s2 with which the ego may brake at any moment."""
LEAST_SPEED = 1.0
"""m/s assumed of who stands: pulling off into the ego is foreseen too."""
PATIENCE_S, FREED_S, FREED_SPEED = 4.0, 3.0, 2.5
"""Who has waited this long in a junction for a standing ego goes first, for so long, at this speed."""
UNTIE_REACH = 30.0
"""Metres between middles beyond which the ego cannot be whom somebody follows within 10 m of air."""
TANGLED_S, TANGLE_REACH = 10.0, 30.0
"""Who has waited this long in a junction within so many metres, with only standing vehicles to yield to, is stuck."""
CLEAR_AHEAD, CLEAR_ASIDE = 3.0, 2.0
"""Metres before its front and to either side of its middle that must be free for going on."""
_ALL_CHECKS, _NO_SAFE_GAP = 31, 6
"""SUMO's speed modes: every check, and only the limits of acceleration."""


@njit(cache=True)
@no_type_check
def _about_to_hit(ego, speed, yaw_rate, agents):  # type: ignore[no-untyped-def]
    """Tell whose front sweeps the ego within its stopping time, both keeping speed and yaw rate, or the ego braking."""
    found = np.zeros(agents.shape[0], np.bool_)
    for k in range(agents.shape[0]):
        dx, dy = ego[0] - agents[k, 0], ego[1] - agents[k, 1]
        if dx * dx + dy * dy > NEAR * NEAR:
            continue
        yaw = agents[k, 2]
        if dx * np.cos(yaw) + dy * np.sin(yaw) <= 0.0:
            continue
        pace = max(LEAST_SPEED, np.sqrt(agents[k, 6] ** 2 + agents[k, 7] ** 2))
        horizon = 0.25 + pace / 8.0
        ax, ay, ex, ey, eyaw = agents[k, 0], agents[k, 1], ego[0], ego[1], ego[2]
        length, width = ego[3] + 2 * MARGIN, ego[4] + 2 * MARGIN
        # Boxes whose circles do not meet need no axes; circles that cannot meet in time need no steps.
        touch = 0.5 * (np.sqrt(length**2 + width**2) + np.sqrt(agents[k, 3] ** 2 + agents[k, 4] ** 2))
        if np.sqrt(dx * dx + dy * dy) > touch + (pace + abs(speed)) * horizon:
            continue
        step, run = 0.1, 0.0
        for i in range(int(horizon / step)):
            run += max(0.0, speed - BRAKING * (i + 0.5) * step) * step
            bx, by = ego[0] + run * np.cos(ego[2]), ego[1] + run * np.sin(ego[2])
            ax, ay, yaw = ax + pace * np.cos(yaw) * step, ay + pace * np.sin(yaw) * step, yaw + agents[k, 8] * step
            ex, ey, eyaw = ex + speed * np.cos(eyaw) * step, ey + speed * np.sin(eyaw) * step, eyaw + yaw_rate * step
            far = (ex - ax) ** 2 + (ey - ay) ** 2 > touch**2
            far_braking = (bx - ax) ** 2 + (by - ay) ** 2 > touch**2
            if not (
                (far or apart(ex, ey, eyaw, length, width, ax, ay, yaw, agents[k, 3], agents[k, 4]))
                and (far_braking or apart(bx, by, ego[2], length, width, ax, ay, yaw, agents[k, 3], agents[k, 4]))
            ):
                found[k] = True
                break
    return found


def about_to_hit(
    box: Float[np.ndarray, " 5"], speed: float, yaw_rate: float, agents: Float[np.ndarray, "M 9"]
) -> Bool[np.ndarray, " M"]:
    """Tell which agents would drive into the ego's box (centre x, y, yaw, length, width) if they did not brake."""
    return _about_to_hit(box, speed, yaw_rate, agents)


@njit(cache=True)
@no_type_check
def _follows(box, agents, aside, turn):  # type: ignore[no-untyped-def]
    """Tell who is behind the ego, headed its way: at most `aside` metres beside its middle, `turn` radians askew."""
    found = np.zeros(agents.shape[0], np.bool_)
    for k in range(agents.shape[0]):
        dx, dy, yaw = box[0] - agents[k, 0], box[1] - agents[k, 1], agents[k, 2]
        along, across = dx * np.cos(yaw) + dy * np.sin(yaw), dy * np.cos(yaw) - dx * np.sin(yaw)
        turned = abs((yaw - box[2] + np.pi) % (2 * np.pi) - np.pi)
        found[k] = along > 0.0 and abs(across) < aside and turned < turn
    return found


def _is_clear_ahead(k: int, box: Float[np.ndarray, " 5"] | None, agents: Float[np.ndarray, "M 9"]) -> bool:
    """Tell whether nobody, the ego's box included where given, is within CLEAR_AHEAD of an agent's front."""
    x, y, yaw, length = agents[k, :4]
    others = np.delete(agents, k, axis=0)[:, :5]
    others = others if box is None else np.concatenate([others, box[None]])
    dx, dy = others[:, 0] - x, others[:, 1] - y
    along, across = dx * np.cos(yaw) + dy * np.sin(yaw), dy * np.cos(yaw) - dx * np.sin(yaw)
    reach = length / 2 + CLEAR_AHEAD + others[:, 3] / 2
    return not ((along > 0.0) & (along < reach) & (np.abs(across) < CLEAR_ASIDE)).any()


class Reflexes:
    """What SUMO's vehicles would not do by themselves, for one simulation."""

    def __init__(self, sumo: Any, dt: float) -> None:
        self.sumo, self.dt = sumo, dt
        self._braking: dict[str, float] = {}
        """Who brakes, and for how many seconds still."""
        self._freed: dict[str, float] = {}
        self._ego_stands = 0.0

    def act(
        self, box: Float[np.ndarray, " 5"], speed: float, yaw_rate: float, names: list[str], agents: np.ndarray
    ) -> None:
        """Order braking and going on; `names` are the vehicles of the first rows of `agents`."""
        vehicles = agents[: len(names)]
        alarmed = about_to_hit(box, speed, yaw_rate, vehicles)
        # Whoever is astride two lanes counts as being on one: who drives on the other has to be told.
        behind = alarmed & _follows(box, vehicles, SAME_LANE, SAME_WAY) if alarmed.any() else alarmed
        for k in np.flatnonzero(behind):
            # SUMO loses sight of an ego that has crossed its stop line by a step, and would drive into its back.
            alarmed[k] = not self._leads(names[k], NEAR)
        braking = {name: left - self.dt for name, left in self._braking.items() if left > self.dt and name in names}
        braking |= {names[k]: HOLD_S for k in np.flatnonzero(alarmed)}
        for name in sorted(braking.keys() - self._braking.keys()):
            self._order(name, 0.0, _ALL_CHECKS)
            self._freed.pop(name, None)
        for name in sorted(self._braking.keys() - braking.keys()):
            if name in names:
                self._order(name, -1.0, _ALL_CHECKS)
        self._braking = braking
        self._ego_stands = self._ego_stands + self.dt if speed < 0.3 else 0.0
        if self._ego_stands > PATIENCE_S or self._freed:
            # Who stands behind the ego is right to wait; who is far from it waits for somebody else.
            near = np.hypot(vehicles[:, 0] - box[0], vehicles[:, 1] - box[1]) < UNTIE_REACH
            self._untie(names, near & ~_follows(box, vehicles, 2.5, 1.0))
        if self._ego_stands > PATIENCE_S and not self._freed:
            self._untangle(box, names, agents)

    def _untangle(self, box: Float[np.ndarray, " 5"], names: list[str], agents: Float[np.ndarray, "M 9"]) -> None:
        """Let the one go who has waited longest of those who wait for one another in the ego's junction."""
        vehicle = self.sumo.vehicle
        found: list[tuple[float, str]] = []
        for k, name in enumerate(names):
            near = np.hypot(agents[k, 0] - box[0], agents[k, 1] - box[1]) < TANGLE_REACH
            if not near or name in self._braking or not vehicle.getLaneID(name).startswith(":"):
                continue
            waited = float(vehicle.getWaitingTime(name))
            # In the end even towards the ego: it brakes for that itself, and its way may bend aside.
            if waited < TANGLED_S or not _is_clear_ahead(k, box if waited < 2 * TANGLED_S else None, agents):
                continue
            foes = [foe[0] for foe in vehicle.getJunctionFoes(name, TANGLE_REACH) if foe[7]]
            if all(foe == EGO or vehicle.getSpeed(foe) < 0.3 for foe in foes):
                found.append((waited, name))
        if found:
            name = max(found)[1]
            self._freed[name] = FREED_S
            self._order(name, FREED_SPEED, _NO_SAFE_GAP)

    def _untie(self, names: list[str], concerned: Bool[np.ndarray, " M"]) -> None:
        """Let those go whom only the standing ego keeps inside a junction."""
        vehicle = self.sumo.vehicle
        for name in [n for n in self._freed if n not in names]:
            del self._freed[name]
        for name, left in list(self._freed.items()):
            self._freed[name] = left - self.dt
            if left <= 0.0:
                del self._freed[name]
                self._order(name, -1.0, _ALL_CHECKS)
        for name in (names[k] for k in np.flatnonzero(concerned)):
            if (
                name not in self._braking
                and name not in self._freed
                and vehicle.getWaitingTime(name) > PATIENCE_S
                and vehicle.getLaneID(name).startswith(":")
                and self._leads(name, 10.0)
            ):
                self._freed[name] = FREED_S
                self._order(name, FREED_SPEED, _NO_SAFE_GAP)

    def _leads(self, name: str, reach: float) -> bool:
        """Tell whether the ego is whom SUMO lets a vehicle follow within `reach` metres."""
        return bool((self.sumo.vehicle.getLeader(name, reach) or ("", 0.0))[0] == EGO)

    def _order(self, name: str, speed: float, mode: int) -> None:
        self.sumo.vehicle.setSpeedMode(name, mode)
        self.sumo.vehicle.setSpeed(name, speed)
