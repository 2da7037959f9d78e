"""Somebody crosses the street the ego turns into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from drivebyword.world.asks import leaves_time
from drivebyword.world.cast import ADULT, Actor, Beat, arrives
from drivebyword.world.family import Family
from drivebyword.world.stage import Range, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class PedestrianInTurn(Family):
    """A walker at 5 km/h crosses the exit of a left or right turn."""

    name: ClassVar[str] = "pedestrian_in_turn"
    source: ClassVar[str] = "Euro NCAP CPTA; Bench2Drive VehicleTurningRoutePedestrian"
    walker_kph: Range = (4.5, 5.5)

    def build(self, stage: Stage) -> None:
        """Time the walker to reach the exit lane with the ego."""
        stage.at_junction(stage.pick(("left", "right")), before=55.0)
        stage.green()
        pace = stage.draw(self.walker_kph) / 3.6
        exit_s = next(span.end for span in stage.way.spans if span.link is not None)
        at, start = exit_s + 3.0, stage.pick((-1.0, 1.0)) * stage.draw((4.5, 6.0))
        stage.ask(leaves_time(1.5))
        stage.edge(
            Actor(
                name="walker",
                body=ADULT,
                path=stage.across(at, start, -2.5 * start),
                s=0.0,
                in_traffic=False,
                beats=(Beat(when=arrives(at, abs(start) / pace + 0.5, least_speed=4.0), speed=pace, edge=True),),
            )
        )
