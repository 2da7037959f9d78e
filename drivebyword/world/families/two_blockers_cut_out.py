"""The car ahead changes lanes; a car and a motorbike stand behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from drivebyword.core.records import Lights
from drivebyword.world.careful import WANDER, avoids
from drivebyword.world.cast import CAR, MOTORBIKE, Beat, arrives
from drivebyword.world.family import Family
from drivebyword.world.stage import Range, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoBlockersCutOut(Family):
    """At 60 km/h the lead leaves the lane 15 to 40 m before a motorbike and a car up to 4 m behind each other."""

    name: ClassVar[str] = "two_blockers_cut_out"
    source: ClassVar[str] = "UN R157 Annex 5, 4.5_2"
    limit_kph: Range = (60.0, 60.0)
    reveal: Range = (15.0, 40.0)
    stagger: Range = (0.0, 4.0)
    sideways: Range = (1.0, 2.0)

    def build(self, stage: Stage) -> None:
        """Lead the ego towards the two and swing out to the left."""
        stage.on_road(stage.draw(self.limit_kph), lanes=2)
        reveal, sideways, gap = stage.draw(self.reveal), stage.draw(self.sideways), 1.5 * stage.speed
        first, stagger = stage.ego_s + stage.draw((110.0, 150.0)), stage.draw(self.stagger)
        cue_s = first - MOTORBIKE.length / 2 - reveal - gap - CAR.length
        stage.preventable = avoids(stage.speed, reveal + gap + CAR.length - stage.speed * WANDER / sideways)
        swing = Beat(
            when=arrives(cue_s, 0.0), aside=stage.lane_width, sideways=sideways, lights=Lights.LEFT, edge=not stage.twin
        )
        stage.add(stage.lead(gap, swing))
        behind = first + MOTORBIKE.length / 2 + stagger + CAR.length / 2
        stage.edge(stage.standing("motorbike", MOTORBIKE, first, 0.3, hazard=True))
        stage.edge(stage.standing("car", CAR, behind, hazard=True))
