"""Somebody broken down in fog so thick that only slow is safe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from drivebyword.core.rig import Weather
from drivebyword.world.asks import stops_within
from drivebyword.world.cast import CAR
from drivebyword.world.family import Family
from drivebyword.world.stage import Range, Stage

SEEN = 1.5
"""The sensors see so many times Weather.fog_visibility, over which light falls to a third (place.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseFog(Family):
    """Visibility 15 to 60 m: the stopping distance must stay within sight."""

    name: ClassVar[str] = "dense_fog"
    source: ClassVar[str] = "ISO 34502 perception disturbance"
    limit_kph: Range = (50.0, 70.0)
    visibility: Range = (15.0, 60.0)

    def build(self, stage: Stage) -> None:
        """Fill the air and stand a car in the lane."""
        stage.on_road(stage.draw(self.limit_kph), lanes=2)
        visibility = stage.draw(self.visibility)
        stage.speed = min(stage.speed, 0.2 * visibility + 2.0)
        stage.ask(stops_within(visibility))
        if not stage.twin:
            stage.weather = Weather(fog_visibility=visibility / SEEN)
        at = stage.ego_s + stage.draw((110.0, 170.0))
        stage.edge(stage.standing("stopped", CAR, at, hazard=True))
