"""The next lane has green, the ego's has red."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from drivebyword.world.family import Family
from drivebyword.world.stage import Range, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongLaneSignal(Family):
    """A green for the lane beside while the ego's own stays red, 15 to 60 m away."""

    name: ClassVar[str] = "wrong_lane_signal"
    source: ClassVar[str] = "Bench2Drive VanillaSignalizedTurnEncounterRedLight; red-light runs of published stacks"
    distance: Range = (35.0, 60.0)
    red_s: Range = (8.0, 20.0)

    def build(self, stage: Stage) -> None:
        """Show the two lanes different colours for a while."""
        stage.at_junction("straight", before=stage.draw(self.distance), signal=True, lanes=2)
        red = stage.draw(self.red_s)
        if stage.twin:
            stage.green()
        else:
            stage.red_s = red
