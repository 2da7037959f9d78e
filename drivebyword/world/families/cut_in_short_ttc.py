"""Somebody in the next lane moves over, close ahead and slower."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import ClassVar

from drivebyword.core.records import Lights
from drivebyword.world.careful import WANDER, avoids
from drivebyword.world.cast import CAR, Actor, Beat, arrives, aside_s
from drivebyword.world.family import Family
from drivebyword.world.stage import Range, Stage

INTRUDES = 0.3
"""Metres beyond the lane's line from which somebody has cut in (UN R157, 5.2.5.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CutInShortTtc(Family):
    """A car 10 to 60 km/h slower is in the ego's lane 0.5 to 3 s before the ego would reach it."""

    name: ClassVar[str] = "cut_in_short_ttc"
    source: ClassVar[str] = "UN R157 Annex 5, 4.4; Bench2Drive HighwayCutIn"
    limit_kph: Range = (50.0, 80.0)
    slower_kph: Range = (10.0, 60.0)
    ttc_s: Range = (0.5, 3.0)
    sideways: Range = (0.5, 1.8)

    def build(self, stage: Stage) -> None:
        """Let the ego catch up with a slower car to its left that moves over once the time has come."""
        stage.on_road(stage.draw(self.limit_kph), lanes=2)
        pace = max(stage.speed - stage.draw(self.slower_kph) / 3.6, 2.0)
        ttc, sideways = stage.draw(self.ttc_s), stage.draw(self.sideways)
        closing = stage.speed - pace
        # The regulation counts from when it is INTRUDES metres over the line; the cue comes 4 s into the scene.
        air = stage.lane_width - CAR.width
        cue_s, gap = stage.ego_s + 4.0 * stage.speed, closing * (ttc + aside_s(air / 2 + INTRUDES, sideways))
        tail = cue_s + gap - 4.0 * pace
        # Perceived once it has left the middle of its lane: until then the gap goes on closing.
        seen_s = aside_s(WANDER, sideways)
        window_s = aside_s(air, sideways) - seen_s, inf
        stage.preventable = avoids(stage.speed, gap - closing * seen_s, pace, window_s=window_s)
        stage.add(
            Actor(
                name="cutter",
                body=CAR,
                path=stage.way.line,
                s=tail + CAR.length / 2,
                speed=pace,
                aside=stage.lane_width,
                beats=stage.edge_beats(
                    "cutter",
                    Beat(when=arrives(cue_s, 0.0), aside=0.0, sideways=sideways, lights=Lights.RIGHT, edge=True),
                ),
            )
        )
