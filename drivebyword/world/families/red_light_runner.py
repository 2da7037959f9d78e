"""Somebody crosses against the red."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from drivebyword.world.asks import leaves_time
from drivebyword.world.careful import avoids, crossing_s
from drivebyword.world.cast import AT_ONCE, CAR, Actor, Beat, arrives
from drivebyword.world.family import Family
from drivebyword.world.stage import Range, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class RedLightRunner(Family):
    """A car from the left or right at 40 to 60 km/h, seen 1.5 to 3 s before it meets the ego, whose light is green."""

    name: ClassVar[str] = "red_light_runner"
    source: ClassVar[str] = "Bench2Drive OppositeVehicleRunningRedLight; NHTSA running red light"
    runner_kph: Range = (40.0, 60.0)
    seen_s: Range = (1.5, 3.0)

    def build(self, stage: Stage) -> None:
        """Hold the ego's light green and send the runner through so that it meets the ego in the junction."""
        stage.at_junction("straight", before=70.0, signal=True, crossed=True)
        pace, seen = stage.draw(self.runner_kph) / 3.6, stage.draw(self.seen_s)
        path, meets, at = stage.crossing
        stage.green()
        gap, window_s = stage.speed * seen - CAR.width / 2, crossing_s(seen, pace, CAR.length)
        stage.preventable = avoids(stage.speed, gap, window_s=window_s, length=CAR.width)
        stage.ask(leaves_time(1.5))
        stage.edge(
            Actor(
                name="runner",
                body=CAR,
                path=path,
                s=meets - pace * seen,
                speed=0.0,
                enters=1,
                beats=(Beat(when=arrives(at, seen), speed=pace, accel=AT_ONCE, edge=True),),
            )
        )
