"""Way for an emergency vehicle: a track and the agents in, the same track along the lane's edge at the kerb out."""

from __future__ import annotations

import numpy as np

from drivebyword.core.kinematics import CarConfig
from drivebyword.core.records import Lights, Snapshot
from drivebyword.world.paths import Track, shifted

SIGHT = 80.0
"""Metres behind within which blue lights are noticed."""
PACE = 5.5
"""m/s at most while somebody with blue lights is behind."""
KERB = 0.25
"""Metres kept to the lane's edge."""
REACH, LASTS_S = 12.0, 20.0
"""Metres to move aside in; seconds to stay there at most."""
LEAST = 10.0
"""Metres aside before a junction below which the car stays where it is: it would have to come back at once."""


class GivingWay:
    """Lets emergency vehicles pass."""

    def __init__(self, car: CarConfig, kerb: float) -> None:
        self.car, self.kerb = car, kerb
        self.reset()

    def reset(self) -> None:
        """Forget the last scene."""
        self.pace: float | None = None
        """m/s to slow down to while somebody has to pass; None: nobody has."""
        self._base: Track | None = None
        self._bent: Track | None = None
        self._back = 0.0
        """Arc length from which the way leads back."""

    def find(self, track: Track, s: float, offset: float, speed: float, snapshot: Snapshot) -> Track:
        """Return the track moved aside while blue lights come up from behind; as it is where none do."""
        x, y, yaw = (float(v) for v in snapshot.ego[:3])
        lit = (snapshot.agent_lights & int(Lights.BLUE)) != 0
        self.pace = None
        them = snapshot.agents[lit]
        along = (them[:, 0] - x) * np.cos(yaw) + (them[:, 1] - y) * np.sin(yaw)
        same = np.cos(them[:, 2] - yaw) > 0.5
        if not (same & (along < self.car.front) & (along > -SIGHT)).any():
            return self._lead_back(track, s, x, y)
        self.pace = PACE
        if track is self._bent:
            return track
        here = track.span_at(s)
        junction = next((span.start for span in track.links_ahead(s) if span.link is not None), s + 200.0)
        room = min(LASTS_S * max(speed, PACE), junction - s - 2 * REACH)
        if here.link is not None or room < LEAST:
            return track
        aside = self.kerb * ((here.lane.width - self.car.width) / 2 - KERB)
        self._base, self._back = track, s + REACH + room
        self._bent = shifted(shifted(track, s, offset, aside, REACH), self._back, 0.0, -aside, REACH)
        return self._bent

    def _lead_back(self, track: Track, s: float, x: float, y: float) -> Track:
        """Return the track as it was before, from here on, once nobody has to pass any more."""
        if track is not self._bent or self._base is None or s > self._back:
            return track
        base, self._base, self._bent = self._base, None, None
        return shifted(base, s, base.locate(x, y, s)[1], 0.0, REACH)
