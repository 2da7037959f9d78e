"""The car ahead changes lanes at the last moment; behind it somebody stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from drivebyword.core.records import Lights
from drivebyword.world.careful import WANDER, avoids
from drivebyword.world.cast import CAR, Beat, arrives
from drivebyword.world.family import Family
from drivebyword.world.stage import Range, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOutRevealsStopped(Family):
    """At 60 km/h the lead leaves the lane 15 to 40 m before a standing car."""

    name: ClassVar[str] = "cut_out_reveals_stopped"
    source: ClassVar[str] = "UN R157 Annex 5, 4.5"
    limit_kph: Range = (60.0, 60.0)
    reveal: Range = (15.0, 40.0)
    sideways: Range = (1.0, 2.0)

    def build(self, stage: Stage) -> None:
        """Lead the ego at 1.5 s towards the standing car, and swing out to the left."""
        stage.on_road(stage.draw(self.limit_kph), lanes=2)
        reveal, sideways, gap = stage.draw(self.reveal), stage.draw(self.sideways), 1.5 * stage.speed
        stands = stage.ego_s + stage.draw((110.0, 150.0))
        # The lead's nose is `gap` and its own length ahead of the ego's.
        cue_s = stands - CAR.length / 2 - reveal - gap - CAR.length
        stage.preventable = avoids(stage.speed, reveal + gap + CAR.length - stage.speed * WANDER / sideways)
        swing = Beat(
            when=arrives(cue_s, 0.0), aside=stage.lane_width, sideways=sideways, lights=Lights.LEFT, edge=not stage.twin
        )
        stage.add(stage.lead(gap, swing))
        stage.edge(stage.standing("stopped", CAR, stands, hazard=True))
