"""A car stands behind a bend that parked vans hide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from drivebyword.world.asks import stops_short
from drivebyword.world.careful import avoids
from drivebyword.world.cast import CAR, TRUCK
from drivebyword.world.family import Family
from drivebyword.world.stage import Range, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadStoppedHiddenByBend(Family):
    """At 50 to 80 km/h, a broken-down car comes into sight 40 to 90 m ahead. This world is flat: a bend, no crest."""

    name: ClassVar[str] = "lead_stopped_hidden_by_bend"
    source: ClassVar[str] = "NHTSA lead vehicle stopped; Euro NCAP CCRs; UN R157 Annex 5, 4.2"
    limit_kph: Range = (50.0, 80.0)
    sight: Range = (40.0, 90.0)

    def build(self, stage: Stage) -> None:
        """Stand the car in the lane, and line the inside of the bend with trucks as far as it should be hidden."""
        stage.on_road(stage.draw(self.limit_kph), lanes=2, bend=0.22)
        at, sight = stage.ego_s + stage.draw((150.0, 180.0)), stage.draw(self.sight)
        stage.preventable = avoids(stage.speed, sight - 5.0)
        leftward = stage.way.heading_at(at) > stage.way.heading_at(stage.ego_s)
        inside = stage.kerb(left=leftward) + TRUCK.width / 2 + 0.2
        aside = inside if leftward else -inside
        for k in range(5):
            s = at - 8.0 - 9.5 * k
            if s > stage.ego_s + 20.0:
                stage.add(stage.standing(f"truck {k}", TRUCK, s, aside))
        stage.ask(stops_short(1.0))
        stage.edge(stage.standing("stopped", CAR, at, hazard=True))
