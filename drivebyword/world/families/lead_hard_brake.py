"""The car ahead brakes hard for no reason the ego can see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from drivebyword.world.asks import brakes_as_needed
from drivebyword.world.careful import avoids
from drivebyword.world.cast import Beat, after, arrives
from drivebyword.world.family import Family
from drivebyword.world.stage import Range, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadHardBrake(Family):
    """At 50 km/h, 12 to 40 m behind somebody who brakes with 2 to 6 m/s2."""

    name: ClassVar[str] = "lead_hard_brake"
    source: ClassVar[str] = "Euro NCAP CCRb; Bench2Drive HardBreakRoute; UN R157 Annex 5, 4.3"
    limit_kph: Range = (50.0, 50.0)
    gap: Range = (12.0, 40.0)
    decel: Range = (2.0, 6.0)

    def build(self, stage: Stage) -> None:
        """Lead the ego along the road, then brake to a stand and, after a while, go on."""
        stage.on_road(stage.draw(self.limit_kph))
        gap, decel = stage.draw(self.gap), stage.draw(self.decel)
        at = stage.ego_s + stage.draw((60.0, 110.0))
        stage.preventable = avoids(stage.speed, gap, stage.speed, decel)
        stage.ask(brakes_as_needed(6.0))
        brake = Beat(when=arrives(at, 0.0), speed=0.0, accel=decel, edge=True)
        go_on = Beat(when=after(6.0), speed=stage.speed)
        stage.add(stage.lead(gap, *stage.edge_beats("lead", brake, go_on)))
