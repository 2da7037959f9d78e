"""Left across a stream of oncoming cars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from drivebyword.world.asks import leaves_time
from drivebyword.world.family import Family
from drivebyword.world.stage import Range, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftAcrossOncoming(Family):
    """Oncoming cars at 30 to 60 km/h, 2 to 6 s apart, while the ego wants to turn left."""

    name: ClassVar[str] = "left_across_oncoming"
    source: ClassVar[str] = "Euro NCAP CCFtap; NHTSA left turn across path, opposite direction"
    oncoming_kph: Range = (30.0, 60.0)
    gap_s: Range = (2.0, 6.0)

    def build(self, stage: Stage) -> None:
        """Send five cars so that the first reaches the junction with the ego."""
        stage.at_junction("left", before=55.0, signal=True, oncoming=True)
        stage.green()
        stage.ask(leaves_time(1.5))
        stage.stream("oncoming", 5, stage.draw(self.oncoming_kph) / 3.6, self.gap_s, 8.0)
