"""Cyclists cross one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from drivebyword.world.cast import BICYCLE, Actor, Beat, after, arrives
from drivebyword.world.family import Family
from drivebyword.world.stage import Range, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class CyclistCrossingFlow(Family):
    """3 to 8 bicycles at 15 km/h, 1 to 3 s apart, cross the ego's street."""

    name: ClassVar[str] = "cyclist_crossing_flow"
    source: ClassVar[str] = "Bench2Drive CrossingBicycleFlow; Euro NCAP CBNA"
    limit_kph: Range = (30.0, 50.0)
    cyclist_kph: Range = (14.0, 16.0)
    gap_s: Range = (1.0, 3.0)

    def build(self, stage: Stage) -> None:
        """Start them from beside the road so that the first meets the ego."""
        stage.on_road(stage.draw(self.limit_kph))
        pace, count, left = stage.draw(self.cyclist_kph) / 3.6, stage.pick(range(3, 9)), stage.pick((False, True))
        at, later, start = stage.ego_s + stage.draw((90.0, 130.0)), 0.0, stage.kerb(left=left) + 16.0
        start, end = (start, -(stage.kerb() + 15.0)) if left else (-start, stage.kerb(left=True) + 15.0)
        for k in range(count):
            first = Beat(when=arrives(at, abs(start) / pace + 0.8))
            rides = Beat(when=after(later), speed=pace, accel=3.0, edge=k == 0)
            stage.edge(
                Actor(
                    name=f"cyclist {k}",
                    body=BICYCLE,
                    path=stage.across(at + stage.draw((-0.5, 0.5)), start, end),
                    s=0.0,
                    beats=(first, rides),
                    enters=2 * (k > 0),
                    in_traffic=False,
                )
            )
            later += stage.draw(self.gap_s)
