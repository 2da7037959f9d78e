"""A car with its hazard lights on stands partly in the lane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from drivebyword.world.asks import keeps_gap
from drivebyword.world.cast import CAR
from drivebyword.world.family import Family
from drivebyword.world.stage import Range, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialBlocker(Family):
    """At 30 to 60 km/h, a broken-down car whose middle is up to 2 m beside the lane's."""

    name: ClassVar[str] = "partial_blocker"
    source: ClassVar[str] = "UN R157 Annex 5, 4.2_2; NHTSA lead vehicle stopped"
    limit_kph: Range = (30.0, 60.0)
    offset: Range = (-2.0, 2.0)

    def build(self, stage: Stage) -> None:
        """Stand the car where the ego comes at full speed."""
        stage.on_road(stage.draw(self.limit_kph))
        s, aside = stage.ego_s + stage.draw((90.0, 150.0)), stage.draw(self.offset)
        stage.detour = (s - 60.0, s + 60.0)
        stage.ask(keeps_gap(0.5))
        stage.edge(stage.standing("blocker", CAR, s, aside, hazard=True))
