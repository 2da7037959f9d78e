"""An emergency vehicle comes up from behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from drivebyword.core.records import Lights
from drivebyword.world.asks import makes_way
from drivebyword.world.cast import VAN, Actor, Beat, arrives, nears
from drivebyword.world.family import Family
from drivebyword.world.stage import Range, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class EmergencyVehicleBehind(Family):
    """Blue lights, 20 to 40 km/h faster than the ego, on one or two lanes."""

    name: ClassVar[str] = "emergency_vehicle_behind"
    source: ClassVar[str] = "Bench2Drive YieldToEmergencyVehicle"
    held_out: ClassVar[bool] = True
    limit_kph: Range = (30.0, 50.0)
    faster_kph: Range = (20.0, 40.0)

    def build(self, stage: Stage) -> None:
        """Let it close in, swing out to the left, pass and come back."""
        stage.on_road(stage.draw(self.limit_kph), lanes=stage.pick((1, 2)), before=90.0)
        closing = stage.draw(self.faster_kph) / 3.6
        beats = (
            Beat(when=arrives(stage.ego_s, 0.0), edge=True),
            Beat(when=nears(60.0), aside=stage.lane_width * 0.85, sideways=2.0),
            Beat(when=nears(-25.0), aside=0.0, sideways=1.2),
        )
        stage.ask(makes_way(8.0, 0.3))
        stage.edge(
            Actor(
                name="ambulance",
                body=VAN,
                path=stage.way.line,
                s=stage.ego_s - 75.0,
                speed=stage.speed + closing,
                lights=Lights.BLUE,
                in_traffic=False,
                beats=beats,
            )
        )
