"""The door of a parked car opens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from drivebyword.world.careful import PAST_PARKED, avoids
from drivebyword.world.cast import AT_ONCE, CAR, DOOR, Actor, Beat, after, arrives
from drivebyword.world.family import Family
from drivebyword.world.stage import Range, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorOpens(Family):
    """At 30 to 50 km/h, a door opens 0.6 to 2 s before the ego reaches it, with somebody coming the other way."""

    name: ClassVar[str] = "door_opens"
    source: ClassVar[str] = "Bench2Drive VehicleOpensDoorTwoWays; Euro NCAP CBDA"
    held_out: ClassVar[bool] = True
    limit_kph: Range = (30.0, 50.0)
    ttc_s: Range = (0.6, 2.0)

    def build(self, stage: Stage) -> None:
        """Park three cars at the kerb; the middle one's door swings into the lane."""
        stage.on_road(stage.draw(self.limit_kph))
        at, ttc, kerb = stage.ego_s + stage.draw((80.0, 130.0)), stage.draw(self.ttc_s), stage.kerb()
        stage.detour = (at - 40.0, at + 40.0)
        for k in range(3):
            aside = -(kerb + CAR.width / 2 - 0.35)
            stage.add(stage.standing(f"parked {k}", CAR, at + 6.0 * (k - 1) - 0.4, aside))
        careful = min(stage.speed, PAST_PARKED)
        stage.preventable = avoids(careful, careful * ttc)
        # Whoever opened it has seen the ego by then.
        closes = Beat(when=after(8.0), aside=-(kerb - 0.35 + DOOR.width / 2), sideways=0.8)
        stage.edge(
            Actor(
                name="door",
                body=DOOR,
                path=stage.way.line,
                s=at + 0.6,
                aside=-(kerb - 0.35 - DOOR.width / 2),
                enters=1,
                in_traffic=False,
                beats=(Beat(when=arrives(at, ttc), edge=True), closes),
            )
        )
        pace = stage.speed
        line = stage.beside(stage.lane_width)[::-1]
        comes = Beat(when=arrives(at, ttc + 2.0), speed=pace, accel=AT_ONCE)
        s = stage.length_of(line) - at - pace * (ttc + 2.5)
        stage.add(Actor(name="oncoming", body=CAR, path=line, s=s, enters=1, beats=(comes,)))
