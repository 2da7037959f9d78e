"""An adult runs across the road from the far side, at dusk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from drivebyword.core.rig import Weather
from drivebyword.world.cast import ADULT, Actor, Beat, arrives
from drivebyword.world.family import Family
from drivebyword.world.stage import Range, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class AdultFarsideRun(Family):
    """At 20 to 60 km/h, a runner at 8 km/h who does not look."""

    name: ClassVar[str] = "adult_farside_run"
    source: ClassVar[str] = "Euro NCAP CPFA; Bench2Drive DynamicObjectCrossing"
    limit_kph: Range = (30.0, 60.0)
    runner_kph: Range = (7.5, 8.5)

    def build(self, stage: Stage) -> None:
        """Let the runner start from the left pavement so that both meet in the ego's lane."""
        stage.on_road(stage.draw(self.limit_kph))
        pace = stage.draw(self.runner_kph) / 3.6
        at, start = stage.ego_s + stage.draw((90.0, 130.0)), stage.kerb(left=True) + 1.2
        stage.weather = Weather(night=stage.draw((0.3, 0.5)))
        stage.edge(
            Actor(
                name="runner",
                body=ADULT,
                path=stage.across(at, start, -(stage.kerb() + 2.0)),
                s=0.0,
                in_traffic=False,
                beats=(Beat(when=arrives(at, start / pace + 0.3), speed=pace, accel=4.0, edge=True),),
            )
        )
