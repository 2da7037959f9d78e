"""Round somebody who waits in a junction with a corner in the way: a track in, the same track with a swerve out.

Those who turn across oncoming traffic wait behind one another's corners; a driver steers round, and so does the expert.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from drivebyword.core.kinematics import CarConfig
from drivebyword.core.records import AgentKind, Snapshot
from drivebyword.world.caution import body_clearance
from drivebyword.world.foresight import still
from drivebyword.world.graph import RoadGraph
from drivebyword.world.paths import Track, shifted

PATIENCE_S = 3.0
SWERVES = (-0.5, 0.5, -0.8, 0.8, -1.1, 1.1, -1.5, 1.5, -1.9, 1.9)
"""Sideways metres tried, in this order; negative is towards the kerb."""
REACH, LENGTH, MARGIN = 4.5, 20.0, 0.02
"""Metres in which to swerve, metres looked at, metres kept."""


class Sidestep:
    """Finds a way round, once the car has stood behind somebody for a while."""

    def __init__(self, graph: RoadGraph, car: CarConfig, dt: float) -> None:
        self.graph, self.car, self.dt = graph, car, dt
        self.reset()

    def reset(self) -> None:
        """Forget the last scene."""
        self._stood = 0.0

    def find(self, track: Track, s: float, offset: float, blocker: int | None, snapshot: Snapshot) -> Track | None:
        """Return a track round the blocker (a row of the agents), or None where there is no need or no room."""
        stands = snapshot.ego[3] < 0.3 and blocker is not None
        self._stood = self._stood + self.dt if stands else 0.0
        if blocker is None or self._stood < PATIENCE_S:
            return None
        self._stood -= 1.0  # look again in a second
        x, y, speed = *snapshot.agents[blocker, :2], float(np.hypot(*snapshot.agents[blocker, 6:8]))
        at, _, _ = track.locate(float(x), float(y), s, back=2.0, ahead=25.0)
        in_junction = any(span.start < at + 4.0 and span.end > s for span in track.links_ahead(s))
        if speed > 0.3 or snapshot.agent_kind[blocker] == int(AgentKind.PEDESTRIAN) or not in_junction:
            return None
        past = at + float(snapshot.agents[blocker, 3]) / 2 + 1.0
        front = s + self.car.front
        entered = any(span.start < front for span in track.links_ahead(s))
        for swerve in SWERVES if entered else SWERVES[:2]:  # on a street the next lane belongs to others
            bent = self._bend(track, s, offset, -self.graph.road_map.kerb * swerve, past)
            if self._is_clear(bent, s, snapshot):
                return bent
        return None

    def _bend(self, track: Track, s: float, offset: float, swerve: float, past: float) -> Track:
        """Return the track led aside within REACH and back once past."""
        out = shifted(track, s, offset, swerve, REACH)
        back = shifted(out, past, 0.0, -swerve, 8.0)
        return back

    def _is_clear(self, track: Track, s: float, snapshot: Snapshot) -> bool:
        """Tell whether the car's body, led along the track, touches nobody who stands and stays on the road."""
        run = s + np.arange(0.0, LENGTH, 0.5)
        near = np.hypot(snapshot.agents[:, 0] - snapshot.ego[0], snapshot.agents[:, 1] - snapshot.ego[1]) < 30.0
        rows = np.flatnonzero(near & (np.hypot(snapshot.agents[:, 6], snapshot.agents[:, 7]) < 0.5))
        gap = body_clearance(track, run, still(snapshot.agents[rows], len(run)), snapshot.agents[rows], self.car)
        # Whoever already touches the margin must at least not come nearer.
        if (gap < np.minimum(MARGIN, gap[0] - 0.02)).any():
            return False
        return bool(self.graph.is_drivable(self._corners(track, run)).all())

    def _corners(self, track: Track, run: Float[np.ndarray, " T"]) -> Float[np.ndarray, "P 2"]:
        """Return the body's sides at front and rear axle along the track."""
        heading = np.interp(run, track.s, track.heading)
        middle = np.stack([np.interp(run, track.s, track.line[:, i]) for i in (0, 1)], axis=1)
        ahead = np.stack([np.cos(heading), np.sin(heading)], axis=1)
        left = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1) * self.car.width / 2
        front = middle + ahead * self.car.wheelbase
        return np.concatenate([middle + left, middle - left, front + left, front - left])
