"""Where others will be: agents and roads in, positions over the next seconds out.

Vehicles follow the lane or link they are on at their present speed and acceleration; people walk straight on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from drivebyword.core.geometry import arc_lengths, project
from drivebyword.core.records import PEOPLE, Lights, Snapshot
from drivebyword.world.graph import RoadGraph
from drivebyword.world.roads import Link

_LEFT, _RIGHT = int(Lights.LEFT), int(Lights.RIGHT)
_TOLD = {"left": _LEFT, "right": _RIGHT}
TRUST_ACCELERATION = 1.5
"""Seconds for which a measured acceleration is taken to last."""
ONCOMING = -0.4
"""Cosine of the angle between two headings below which somebody comes the other way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Future:
    """Agents over time: rows are times, columns agents."""

    x: Float[np.ndarray, "T M"]
    y: Float[np.ndarray, "T M"]
    yaw: Float[np.ndarray, "T M"]


def still(agents: Float[np.ndarray, "M 9"], steps: int) -> Future:
    """Return the future of agents who stay where they are."""
    x, y, yaw = (np.repeat(agents[None, :, k].astype(np.float64), steps, axis=0) for k in range(3))
    return Future(x=x, y=y, yaw=yaw)


class Foresight:
    """Predicts others; remembers their last speeds to know their accelerations."""

    def __init__(self, graph: RoadGraph) -> None:
        self.graph = graph
        self._paths: dict[tuple[str, bool], tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        self.reset()

    def reset(self) -> None:
        """Forget the last scene."""
        self._speeds: dict[int, float] = {}
        self._time = -1.0

    def accelerations(self, snapshot: Snapshot) -> Float[np.ndarray, " M"]:
        """Return everybody's acceleration since the last snapshot; 0 for whoever was not in it."""
        speeds = np.hypot(snapshot.agents[:, 6], snapshot.agents[:, 7])
        gone = snapshot.time_s - self._time
        known = self._speeds if 0.01 < gone < 0.5 else {}
        keys = snapshot.agent_key.tolist()
        before = np.array([known.get(key, np.nan) for key in keys])
        if gone > 0.01 or gone < 0.0:
            self._speeds, self._time = dict(zip(keys, speeds.tolist())), snapshot.time_s
            self._last = np.nan_to_num(np.clip((speeds - before) / max(gone, 0.05), -5.0, 2.5))
        return self._last

    def predict(
        self,
        snapshot: Snapshot,
        rows: np.ndarray,
        accelerations: Float[np.ndarray, " M"],
        times: Float[np.ndarray, " T"],
    ) -> Future:
        """Return the chosen agents' centres and headings at the given times."""
        them = snapshot.agents[rows].astype(np.float64)
        speed = np.hypot(them[:, 6], them[:, 7])
        accel = np.where(np.isin(snapshot.agent_kind[rows], PEOPLE), 0.0, accelerations[rows])
        run = _distance(speed, accel, times)
        rate = np.clip(them[:, 8], -0.6, 0.6) * (~np.isin(snapshot.agent_kind[rows], PEOPLE))
        turned = rate * times[:, None]
        future = Future(
            x=them[:, 0] + run * np.cos(them[:, 2] + turned / 2),
            y=them[:, 1] + run * np.sin(them[:, 2] + turned / 2),
            yaw=them[:, 2] + turned,
        )
        drives = (~np.isin(snapshot.agent_kind[rows], PEOPLE)) & (speed > 0.3)
        for k in np.flatnonzero(drives).tolist():
            self._along_road(future, k, them[k], int(snapshot.agent_lights[rows[k]]), run[:, k], float(snapshot.ego[2]))
        return future

    def _along_road(
        self,
        future: Future,
        k: int,
        agent: Float[np.ndarray, " 9"],
        lights: int,
        run: Float[np.ndarray, " T"],
        ego_yaw: float,
    ) -> None:
        """Put one vehicle's future onto its lane or link, keeping its place beside the line."""
        x, y, yaw = agent[0], agent[1], agent[2]
        match = self.graph.lane_at(x, y, yaw)
        if match is None or match.wrong_way or abs(match.heading_error) > 0.6:
            return
        if match.internal:
            link = self._link(match.lane, x, y, yaw, lights)
            line, s, heading = self._path(match.lane if link is None else link.via[0], link)
        else:
            link = None
            line, s, heading = self._path(match.lane, self._goes_first(match.lane, yaw - ego_yaw, lights))
        at, offset = match.s, match.offset
        if link is not None and link.via[0] != match.lane:
            at, offset, _ = project(np.array([x, y]), line)
        if abs(offset) > 2.5:
            return
        there = at + run
        over = np.maximum(there - s[-1], 0.0)
        yaws = np.interp(there, s, heading)
        future.yaw[:, k] = yaws
        future.x[:, k] = np.interp(there, s, line[:, 0]) + over * np.cos(yaws) - offset * np.sin(yaws)
        future.y[:, k] = np.interp(there, s, line[:, 1]) + over * np.sin(yaws) + offset * np.cos(yaws)

    def _link(self, lane: str, x: float, y: float, yaw: float, lights: int) -> Link | None:
        """Return the link a vehicle in a junction is on; at the entry, where links overlap, its indicator decides."""
        through = self.graph.link_through(lane)
        if through is None:
            return None
        told = "left" if lights & _LEFT else "right" if lights & _RIGHT else "straight"
        if through.direction == told:
            return through
        here = np.array([x, y])
        for other in self.graph.links_from(through.from_lane):
            if other.direction == told:
                _, offset, heading = project(here, other.path)
                if abs(offset) < 0.7 and abs((yaw - heading + np.pi) % (2 * np.pi) - np.pi) < 0.35:
                    return other
        return through

    def _goes_first(self, lane: str, turned: float, lights: int) -> Link | None:
        """Return the link of an oncoming vehicle about to turn along its kerb: it goes before an ego that crosses."""
        near = self.graph.road_map.near_side
        if not lights & _TOLD[near] or np.cos(turned) > ONCOMING:
            return None
        return next((link for link in self.graph.links_from(lane) if link.direction == near), None)

    def _path(self, lane: str, link: Link | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (line, arc lengths, headings) of a lane, or of a link and the lane it leads to.

        A link that leaves the lane itself goes on from it.
        """
        key = (lane, link is not None)
        if key not in self._paths:
            lanes = self.graph.road_map.lanes
            before = [lanes[lane].line] if link is None or link.from_lane == lane else []
            line = np.concatenate(before + ([link.path, lanes[link.to_lane].line] if link is not None else []))
            fresh = np.concatenate([[True], np.hypot(*np.diff(line, axis=0).T) > 0.02])
            line = line[fresh]
            heading = np.unwrap(np.arctan2(*np.diff(line, axis=0).T[::-1]))
            self._paths[key] = line, arc_lengths(line), np.concatenate([heading, heading[-1:]])
        return self._paths[key]


def _distance(
    speed: Float[np.ndarray, " M"], accel: Float[np.ndarray, " M"], times: Float[np.ndarray, " T"]
) -> Float[np.ndarray, "T M"]:
    """Return metres travelled: the acceleration lasts a while, the speed never turns negative."""
    stops = np.where(accel < -0.05, speed / np.maximum(-accel, 0.05), np.inf)
    lasting = np.minimum(np.minimum(times[:, None], TRUST_ACCELERATION), stops)
    later = np.maximum(times[:, None] - lasting, 0.0)
    end = np.maximum(speed + accel * lasting, 0.0)
    return speed * lasting + 0.5 * accel * lasting**2 + end * later
