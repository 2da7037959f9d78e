"""A police officer stops the traffic although its light is green."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from drivebyword.core.records import Lights
from drivebyword.core.rig import Weather
from drivebyword.world.asks import holds
from drivebyword.world.cast import OFFICER, Actor, Beat, after, arrives
from drivebyword.world.family import Family
from drivebyword.world.stage import Range, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class PoliceOverridesGreen(Family):
    """An officer in the junction holds a palm up to the ego, then waves it on; the light is green all the time."""

    name: ClassVar[str] = "police_overrides_green"
    source: ClassVar[str] = "MUTCD part 6, hand signalling; Vienna Convention Article 6"
    held_out: ClassVar[bool] = True
    hold_s: Range = (8.0, 18.0)
    dusk: Range = (0.0, 0.5)

    def build(self, stage: Stage) -> None:
        """Stand the officer beside the ego's way through the junction, looking at it."""
        stage.at_junction("straight", before=70.0, signal=True)
        stage.green()
        stage.weather = Weather(night=stage.draw(self.dusk))
        hold, at = stage.draw(self.hold_s), stage.entry + stage.draw((3.0, 5.0))
        gestures = (
            Beat(when=arrives(at, 5.0), lights=Lights.STOP, edge=True),
            Beat(when=after(hold), lights=Lights.GO),
        )
        stage.ask(holds(stage.entry, "officer"))
        path = stage.turned(at, 2.6, 3.1416)
        stage.edge(Actor(name="officer", body=OFFICER, path=path, s=5.0, in_traffic=False, beats=gestures))
