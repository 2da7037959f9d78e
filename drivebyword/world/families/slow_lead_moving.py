"""Somebody far slower than the limit ahead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from drivebyword.world.asks import keeps_time_gap
from drivebyword.world.cast import TRUCK, Actor
from drivebyword.world.family import Family
from drivebyword.world.stage import Range, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowLeadMoving(Family):
    """At 30 to 80 km/h, behind a truck at 20."""

    name: ClassVar[str] = "slow_lead_moving"
    source: ClassVar[str] = "Euro NCAP CCRm; NHTSA lead vehicle moving slower"
    limit_kph: Range = (30.0, 80.0)
    lead_kph: Range = (18.0, 22.0)

    def build(self, stage: Stage) -> None:
        """Put the truck as far ahead as the ego needs to reach it before the first junction."""
        stage.on_road(stage.draw(self.limit_kph))
        pace = stage.draw(self.lead_kph) / 3.6
        gap = 12.0 + 5.0 * max(stage.speed - pace, 0.0)
        stage.ask(keeps_time_gap(1.0))
        stage.edge(
            Actor(name="truck", body=TRUCK, path=stage.way.line, s=stage.ego_s + gap + TRUCK.length / 2, speed=pace)
        )
