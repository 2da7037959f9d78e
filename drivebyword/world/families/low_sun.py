"""Somebody broken down where the sun stands low over the road."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from drivebyword.core.rig import Weather
from drivebyword.world.cast import CAR
from drivebyword.world.family import Family
from drivebyword.world.stage import Range, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class LowSun(Family):
    """The sun 2 to 10 degrees above the end of the road: what stands there must be seen against it."""

    name: ClassVar[str] = "low_sun"
    source: ClassVar[str] = "ISO 34502 perception disturbance; NHTSA DOT HS 810 767, sun glare"
    limit_kph: Range = (30.0, 60.0)
    elevation: Range = (0.035, 0.175)
    aside: Range = (-0.12, 0.12)
    glare: Range = (0.7, 1.0)

    def build(self, stage: Stage) -> None:
        """Let the sun shine down the road and stand a car in the lane."""
        stage.on_road(stage.draw(self.limit_kph), lanes=2)
        at = stage.ego_s + stage.draw((90.0, 150.0))
        ahead = np.subtract(stage.way.at(at), stage.way.at(stage.ego_s))
        azimuth = float(np.arctan2(ahead[1], ahead[0])) + stage.draw(self.aside)
        elevation, glare = stage.draw(self.elevation), stage.draw(self.glare)
        if not stage.twin:
            stage.weather = Weather(glare=glare, sun_azimuth=azimuth, sun_elevation=elevation)
        stage.edge(stage.standing("stopped", CAR, at, hazard=True))
