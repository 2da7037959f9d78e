"""One of three parked cars pulls out."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import ClassVar

from drivebyword.core.records import Lights
from drivebyword.world.careful import PAST_PARKED, avoids
from drivebyword.world.cast import CAR, Actor, Beat, arrives, aside_s
from drivebyword.world.family import Family
from drivebyword.world.stage import Range, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class CutInWithStaticQueue(Family):
    """A car pulls out of a row of parked ones when the ego is 8 to 20 m behind it."""

    name: ClassVar[str] = "cut_in_with_static_queue"
    source: ClassVar[str] = "Bench2Drive StaticCutIn, ParkingCutIn"
    limit_kph: Range = (30.0, 50.0)
    gap: Range = (8.0, 20.0)
    pace: Range = (4.0, 6.0)

    def build(self, stage: Stage) -> None:
        """Park three cars at the kerb; the first of them indicates, then moves off into the lane."""
        stage.on_road(stage.draw(self.limit_kph))
        at, gap, pace = stage.ego_s + stage.draw((80.0, 120.0)), stage.draw(self.gap), stage.draw(self.pace)
        aside = -(stage.kerb() + CAR.width / 2 + 0.15)
        for k in range(2):
            stage.add(stage.standing(f"parked {k}", CAR, at - 6.5 * (k + 1), aside))
        cue = at - CAR.length / 2 - gap
        window_s = aside_s(-aside - CAR.width, 1.2), inf
        stage.preventable = avoids(min(stage.speed, PAST_PARKED), gap, 0.5 * pace, window_s=window_s)
        tells = Beat(when=arrives(cue, 1.5), lights=Lights.LEFT)
        pulls = Beat(when=arrives(cue, 0.0), speed=pace, accel=2.0, aside=0.0, sideways=1.2, edge=True)
        beats = stage.edge_beats("puller", tells, pulls)
        stage.add(Actor(name="puller", body=CAR, path=stage.way.line, s=at, aside=aside, beats=beats, in_traffic=False))
