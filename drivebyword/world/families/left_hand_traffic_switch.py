"""The same junction, where one drives on the left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from drivebyword.world.family import Family
from drivebyword.world.stage import Range, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftHandTrafficSwitch(Family):
    """A turn across oncoming cars at 30 to 50 km/h, 2 to 6 s apart: to the right. The twin turns left, on the right."""

    name: ClassVar[str] = "left_hand_traffic_switch"
    source: ClassVar[str] = "arXiv 2603.11417; NHTSA turn across path, opposite direction"
    held_out: ClassVar[bool] = True
    oncoming_kph: Range = (30.0, 50.0)
    gap_s: Range = (2.0, 6.0)

    def build(self, stage: Stage) -> None:
        """Send the same cars in both; the edge element is the side of the road, which mirrors everything."""
        stage.at_junction("left", before=55.0, signal=True, oncoming=True)
        stage.green()
        stage.stream("oncoming", 5, stage.draw(self.oncoming_kph) / 3.6, self.gap_s, 8.0, shared=True)
        stage.left_hand = not stage.twin
