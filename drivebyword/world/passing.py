"""Round what stands in the way on a street: a track and the agents in, the same track led round them out.

Cones, barriers, open doors and cars with their hazard lights on will not move: a driver goes round them within the
lane where there is room, through the next lane or the oncoming one where those are free, and else waits behind.
Nobody is passed who merely waits in a queue.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

import numpy as np
from jaxtyping import Bool, Float, Int

from drivebyword.core.kinematics import CarConfig
from drivebyword.core.records import HAZARD, THINGS, Snapshot
from drivebyword.world.caution import dense, lane_is_free
from drivebyword.world.graph import RoadGraph
from drivebyword.world.paths import Track, shifted

SIGHT = 60.0
"""Metres ahead within which something in the way is gone round."""
GROUP = 100.0
"""Metres ahead up to which what belongs together is looked for."""
AIR, LEAST_AIR = 0.7, 0.55
"""Metres kept beside it, and where the lane has no more to give."""
TIGHT = 7.0
"""m/s at most where the lane has no more to give."""
JOINED = 18.0
"""Metres between two things below which they are passed as one."""
ROOM = 6.0
"""Metres to swing out in, besides one and a half for every metre aside."""
BEYOND = 4.0
"""Metres past the last one before the way leads back."""
BACK, SPARE_S = 24.0, 2.5
"""Metres after the last thing passed until the car is back in its lane; seconds to spare before somebody comes."""
PACE = 5.0
"""m/s assumed for passing, to know how long the oncoming lane is needed."""
BEGUN = 0.4
"""Metres beside the old way from which on the pass is under way and no longer called off."""


def stays(snapshot: Snapshot) -> Bool[np.ndarray, " M"]:
    """Tell who stands in the way for good: things, and vehicles with both indicators on."""
    still = np.hypot(snapshot.agents[:, 6], snapshot.agents[:, 7]) < 0.2
    hazard = (snapshot.agent_lights & HAZARD) == HAZARD
    return np.isin(snapshot.agent_kind, THINGS) | (still & hazard)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """A way round, not yet begun or under way."""

    base: Track
    bent: Track
    end: float
    aside: Float[np.ndarray, " P"]
    """Metres between the two, along the way."""
    tight: bool
    """With little air."""


class Passing:
    """Finds the way round."""

    def __init__(self, graph: RoadGraph, car: CarConfig) -> None:
        self.graph, self.car = graph, car
        self.reset()

    def reset(self) -> None:
        """Forget the last scene."""
        self._plan: _Plan | None = None
        self.wait_at: float | None = None
        """Arc length for the front bumper to wait at until the way round is free; None: nothing to wait for."""

    def pace(self, s: float) -> float:
        """Return the speed at most on the way round; inf where there is room."""
        plan = self._plan
        return TIGHT if plan is not None and plan.tight and s < plan.end else inf

    def find(self, track: Track, s: float, offset: float, snapshot: Snapshot) -> Track:
        """Return the track led round what stands in it; as it is where nothing does, or nobody could pass now."""
        self.wait_at = None
        rows = np.flatnonzero(stays(snapshot))
        them, plan, begun = snapshot.agents[rows].astype(np.float64), self._plan, False
        if plan is not None and plan.bent is track:
            begun = float(np.interp(s, plan.bent.s, plan.aside)) > BEGUN
            more = begun and self._in_the_way(track, s, them) is not None
            if not more and (begun or self._is_free(track, s, plan.end, snapshot, rows)):
                return track
            # More has come into sight, or somebody comes and it is not too late to wait.
            x, y = (float(v) for v in snapshot.ego[:2])
            track, self._plan = plan.base, None
            offset = track.locate(x, y, s)[1]
        found = self._in_the_way(track, s, them)
        if found is None or found[0] > s + SIGHT:
            return plan.bent if begun and plan is not None else track
        bent = self._round(track, s, offset, found, snapshot, rows)
        if bent is None and begun and plan is not None:
            self._plan, bent = plan, plan.bent
        if bent is None:
            # Far enough back to swing out from there, away from the kerb.
            out = found[3] if self.graph.road_map.kerb < 0 else -found[2]
            self.wait_at = found[0] - ROOM - 1.5 * (out + self.car.width / 2 + LEAST_AIR)
        return track if bent is None else bent

    def _round(
        self,
        track: Track,
        s: float,
        offset: float,
        found: tuple[float, float, float, float],
        snapshot: Snapshot,
        rows: Int[np.ndarray, " K"],
    ) -> Track | None:
        """Return the track led round a group, or None where there is no room or no time."""
        first, last, right, left = found
        half, speed = self.car.width / 2, float(snapshot.ego[3])
        kerb = self.graph.road_map.kerb
        moves = [(aside, air) for air in (AIR, LEAST_AIR) for aside in (left + half + air, right - half - air)]
        # Little first, then with air to spare; the widest ways lead through others' lanes.
        for aside, air in sorted(moves, key=lambda move: (abs(move[0]) > 1.2, -move[1], abs(move[0]), kerb * move[0])):
            needed = ROOM - 2.0 + 1.5 * abs(offset - aside)
            reach = float(np.clip(2.5 * speed * np.sqrt(abs(aside) / 2.0), max(8.0, needed), 32.0))
            if abs(offset - aside) < 0.6:  # already aside, and more has come into sight
                out = shifted(track, s, offset, aside, 6.0)
            else:
                begin = max(s, first - 1.5 - self.car.front - reach)
                room = first - 1.0 - self.car.front - begin
                if room < needed:
                    continue
                out = shifted(track, begin, offset if begin == s else 0.0, aside, room)
            bent = shifted(out, last + self.car.rear_overhang + BEYOND, 0.0, -aside, max(reach, 10.0))
            if self._is_free(bent, s, last + BEYOND, snapshot, rows, 0.3 if air == AIR else 0.1):
                away = np.hypot(*(bent.line - track.line).T)
                self._plan = _Plan(base=track, bent=bent, end=last + BEYOND, aside=away, tight=air < AIR)
                return bent
        return None

    def _in_the_way(
        self, track: Track, s: float, them: Float[np.ndarray, "K 9"]
    ) -> tuple[float, float, float, float] | None:
        """Return where the nearest group in the car's corridor begins and ends, and its right and left edges."""
        boxes, here = [], np.array(track.at(s))
        for x, y, yaw, length, width in them[:, :5]:
            if np.hypot(*(here - (x, y))) > GROUP + 10.0:
                continue
            at, aside, heading = track.locate(float(x), float(y), s, back=15.0, ahead=GROUP + 10.0)
            turn = abs(yaw - heading)
            along = (abs(np.cos(turn)) * length + abs(np.sin(turn)) * width) / 2
            across = (abs(np.sin(turn)) * length + abs(np.cos(turn)) * width) / 2
            if at + along > s - 1.0 and at - along < s + GROUP:
                boxes.append((at - along, at + along, aside - across, aside + across))
        boxes.sort()
        half = self.car.width / 2 + LEAST_AIR - 0.05
        first = next((k for k, box in enumerate(boxes) if box[2] < half and box[3] > -half), None)
        if first is None:
            return None
        begin, end, right, left = boxes[first]
        for box in boxes[first + 1 :]:
            near = box[2] < half + 1.0 and box[3] > -half - 1.0
            if box[0] - end < JOINED and near:
                end, right, left = max(end, box[1]), min(right, box[2]), max(left, box[3])
        return begin, end, right, left

    def _is_free(
        self, track: Track, begin: float, end: float, snapshot: Snapshot, rows: np.ndarray, kerb: float = 0.05
    ) -> bool:
        """Tell whether a way is on the road, `kerb` metres inside it, and the lanes it uses free of who drives."""
        run = np.arange(begin, end, 1.0)
        heading = np.interp(run, track.s, track.heading)
        middle = np.stack([np.interp(run, track.s, track.line[:, i]) for i in (0, 1)], axis=1)
        side = np.stack([-np.sin(heading), np.cos(heading)], axis=1) * (self.car.width / 2 + kerb)
        if not self.graph.is_drivable(np.concatenate([middle + side, middle - side])).all():
            return False
        lanes: dict[str, bool] = {}
        for (x, y), yaw in zip(middle[::4], heading[::4], strict=True):
            match = self.graph.lane_at(float(x), float(y), float(yaw))
            if match is not None and not match.internal:
                lanes[match.lane] = match.wrong_way
        mine = self.graph.lane_at(*(float(v) for v in snapshot.ego[:3]))
        others = np.ones(len(snapshot.agents), bool)
        others[rows] = False
        moving = _only(snapshot, others)
        for lane, wrong in lanes.items():
            if mine is not None and lane == mine.lane:
                continue
            if wrong and not self._nobody_comes(track, begin, end, moving):
                return False
            road = self.graph.road_map.lanes[lane]
            if not wrong and not lane_is_free(dense(road.line), road.width, moving, self.car):
                return False
        return True

    def _nobody_comes(self, bent: Track, begin: float, end: float, snapshot: Snapshot) -> bool:
        """Tell whether the oncoming lane stays free while the car is in it, and SPARE_S longer."""
        speed = max(float(snapshot.ego[3]), PACE)
        here, _, _ = bent.locate(float(snapshot.ego[0]), float(snapshot.ego[1]), begin, back=80.0)
        needed = (end - here + BACK) / speed + SPARE_S
        # Where the other one meets the way round: its widest part, run on to the end of sight.
        middle = (begin + end) / 2
        x, y = bent.at(middle)
        yaw = bent.heading_at(middle)
        for agent in snapshot.agents:
            dx, dy = float(agent[0]) - x, float(agent[1]) - y
            ahead, aside = dx * np.cos(yaw) + dy * np.sin(yaw), dy * np.cos(yaw) - dx * np.sin(yaw)
            comes = np.cos(float(agent[2]) - yaw) < -0.5
            pace = float(np.hypot(agent[6], agent[7]))
            room = ahead - (end - middle) - BACK
            if (
                comes
                and abs(aside) < 2.5 + 0.02 * abs(ahead)
                and ahead > begin - middle
                and room < needed * max(pace, 2.0)
            ):
                return False
        return True


def _only(snapshot: Snapshot, kept: Bool[np.ndarray, " M"]) -> Snapshot:
    """Return the snapshot with some of its agents."""
    return replace(
        snapshot,
        agents=snapshot.agents[kept],
        agent_kind=snapshot.agent_kind[kept],
        agent_lights=snapshot.agent_lights[kept],
        agent_key=snapshot.agent_key[kept],
    )
