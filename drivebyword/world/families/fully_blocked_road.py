"""An accident across all lanes: nobody can pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from drivebyword.core.records import HAZARD
from drivebyword.world.cast import CAR, VAN, Actor
from drivebyword.world.family import Family
from drivebyword.world.stage import Range, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class FullyBlockedRoad(Family):
    """Crashed cars askew over the whole road; stopping short of them is right."""

    name: ClassVar[str] = "fully_blocked_road"
    source: ClassVar[str] = "Fail2Drive FullyBlocked; Bench2Drive Accident"
    held_out: ClassVar[bool] = True
    limit_kph: Range = (30.0, 60.0)

    def build(self, stage: Stage) -> None:
        """Put a car across the ego's lane and a van across the other."""
        stage.on_road(stage.draw(self.limit_kph))
        s = stage.ego_s + stage.draw((100.0, 150.0))
        stage.barred_s = None if stage.twin else s - 3.0
        for name, body, aside in (("car", CAR, 0.3), ("van", VAN, stage.lane_width + 0.2)):
            tilt = stage.draw((0.9, 1.6))
            stage.edge(
                Actor(
                    name=name,
                    body=body,
                    path=stage.turned(s, aside, tilt),
                    s=5.0,
                    lights=HAZARD,
                    in_traffic=False,
                )
            )
