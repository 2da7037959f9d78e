"""Left across a stream of oncoming cars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from drivebyword.world.cast import CAR, Actor, Beat, after, arrives
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
        path, meets, at = stage.crossing
        pace, later = stage.draw(self.oncoming_kph) / 3.6, 0.0
        for k in range(5):
            first = Beat(when=arrives(at, min(meets / pace, 8.0), least_speed=4.0))
            comes = Beat(when=after(later), speed=pace, accel=1000.0, edge=k == 0)
            s = max(meets - 8.0 * pace, 0.0)
            stage.edge(Actor(name=f"oncoming {k}", body=CAR, path=path, s=s, enters=2, beats=(first, comes)))
            later += stage.draw(self.gap_s)
