"""A child runs out from between parked cars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from drivebyword.world.asks import slower
from drivebyword.world.careful import PAST_PARKED, avoids, crossing_s
from drivebyword.world.cast import CAR, CHILD, VAN, Actor, Beat, arrives
from drivebyword.world.family import Family
from drivebyword.world.stage import Range, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildFromParkedCars(Family):
    """At 20 to 50 km/h, a child at 5 km/h that two parked vehicles hide until it is 1 m from the lane."""

    name: ClassVar[str] = "child_from_parked_cars"
    source: ClassVar[str] = "Euro NCAP CPNC; Bench2Drive ParkingCrossingPedestrian"
    limit_kph: Range = (30.0, 50.0)
    child_kph: Range = (4.5, 5.5)
    warning_s: Range = (1.6, 2.6)

    def build(self, stage: Stage) -> None:
        """Park a van and a car at the kerb and let the child run so that it meets the ego."""
        stage.on_road(stage.draw(self.limit_kph))
        pace, warning = stage.draw(self.child_kph) / 3.6, stage.draw(self.warning_s)
        at, kerb = stage.ego_s + stage.draw((80.0, 130.0)), stage.kerb()
        for name, body, s in (("van", VAN, at - 1.0 - VAN.length / 2), ("car", CAR, at + 1.0 + CAR.length / 2)):
            stage.add(stage.standing(name, body, s, -(kerb + body.width / 2 + 0.15)))
        # It can be seen once past the cars' corner; from there it needs so long to the ego's side.
        careful = min(stage.speed, PAST_PARKED)
        window_s = crossing_s(warning, pace, CHILD.length)
        stage.preventable = avoids(careful, careful * warning, window_s=window_s, length=CHILD.width)
        stage.ask(slower(PAST_PARKED, at - 1.0 - VAN.length, at))
        stage.edge(
            Actor(
                name="child",
                body=CHILD,
                path=stage.across(at, -(kerb + 2.2), stage.kerb(left=True) + 2.0),
                s=0.0,
                enters=1,
                in_traffic=False,
                beats=(Beat(when=arrives(at, warning + 1.0), speed=pace, accel=4.0, edge=True),),
            )
        )
