"""Cones close the right lane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from drivebyword.world.asks import keeps_gap
from drivebyword.world.cast import BARRIER, CONE
from drivebyword.world.family import Family
from drivebyword.world.solids import SignKind
from drivebyword.world.stage import Range, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstructionTaper(Family):
    """On two lanes, cones over 30 to 100 m take the right one away, at 30 to 60 km/h."""

    name: ClassVar[str] = "construction_taper"
    source: ClassVar[str] = "Bench2Drive ConstructionObstacle; MUTCD part 6"
    limit_kph: Range = (30.0, 60.0)
    taper: Range = (30.0, 100.0)

    def build(self, stage: Stage) -> None:
        """Set the cones from the kerb to the lane's left edge, then along it, and a barrier behind."""
        stage.on_road(stage.draw(self.limit_kph), lanes=2)
        start, length = stage.ego_s + stage.draw((70.0, 100.0)), stage.draw(self.taper)
        stage.ask(keeps_gap(0.3))
        edge, along = stage.lane_width / 2 - 0.2, 24.0
        count = int(length / 6.0)
        places = [(start + length * k / count, -edge + 2 * edge * k / count) for k in range(count + 1)]
        places += [(start + length + 6.0 * (k + 1), edge) for k in range(int(along / 6.0))]
        stage.sign(SignKind.WORKS, start - 40.0)
        for k, (s, aside) in enumerate(places):
            stage.edge(stage.standing(f"cone {k}", CONE, s, aside))
        stage.edge(stage.standing("barrier", BARRIER, start + length + 3.0))
