"""A slippery bend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from drivebyword.core.rig import Weather
from drivebyword.world.asks import keeps_lane
from drivebyword.world.cast import CAR
from drivebyword.world.family import Family
from drivebyword.world.stage import Range, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class LowMuCurve(Family):
    """At 40 to 80 km/h into a bend with a friction of 0.2 to 0.5."""

    name: ClassVar[str] = "low_mu_curve"
    source: ClassVar[str] = "NHTSA control loss; Bench2Drive ControlLoss"
    limit_kph: Range = (40.0, 80.0)
    friction: Range = (0.2, 0.5)
    bend: Range = (0.14, 0.3)

    def build(self, stage: Stage) -> None:
        """Choose the bend and the grip; the road shines."""
        stage.on_road(stage.draw(self.limit_kph), bend=stage.draw(self.bend))
        friction = stage.draw(self.friction)
        # Whoever is on ice has noticed: a little too fast for the bend, not hopelessly.
        sharpest = float(np.abs(stage.way.curvature).max())
        stage.speed = min(stage.speed, 1.2 * float(np.sqrt(0.4 * 9.81 * friction / max(sharpest, 1e-3))))
        stage.ask(keeps_lane((stage.lane_width - CAR.width) / 2))
        if not stage.twin:
            stage.friction = friction
            stage.weather = Weather(ice=1.0 - friction)
