"""A flagger turns the paddle from STOP to SLOW."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from drivebyword.core.records import Lights
from drivebyword.world.asks import holds, slower
from drivebyword.world.cast import AT_ONCE, BARRIER, CAR, CONE, FLAGGER, Actor, Beat, after, arrives
from drivebyword.world.family import Family
from drivebyword.world.stage import Range, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class FlaggerStopSlow(Family):
    """Works on one lane, both directions in turn; the paddle changes after 5 to 40 s."""

    name: ClassVar[str] = "flagger_stop_slow"
    source: ClassVar[str] = "MUTCD part 6E"
    held_out: ClassVar[bool] = True
    limit_kph: Range = (30.0, 50.0)
    hold_s: Range = (5.0, 40.0)
    works: Range = (20.0, 45.0)

    def build(self, stage: Stage) -> None:
        """Fence the lane off, let a car come through, then turn the paddle."""
        stage.on_road(stage.draw(self.limit_kph))
        start, length, hold = stage.ego_s + 110.0, stage.draw(self.works), stage.draw(self.hold_s)
        stage.detour = (start - 60.0, start + length + 60.0)
        aside = stage.lane_width / 2 - 0.3
        for k in range(int(length / 5.0) + 1):
            stage.edge(stage.standing(f"cone {k}", CONE, start + 5.0 * k, aside))
        stage.edge(stage.standing("barrier", BARRIER, start))
        paddle = (
            Beat(when=arrives(start, 6.0), lights=Lights.STOP, edge=True),
            Beat(when=after(hold), lights=Lights.GO),
        )
        stage.ask(holds(start - 8.0, "flagger"), slower(25 / 3.6, start, start + length))
        beside = stage.turned(start - 8.0, -(stage.kerb() + 0.5), 3.1416)
        stage.edge(Actor(name="flagger", body=FLAGGER, path=beside, s=5.0, in_traffic=False, beats=paddle))
        line = stage.beside(stage.lane_width)[::-1]
        comes = Beat(when=arrives(start, 5.5), speed=7.0, accel=AT_ONCE)
        s = stage.length_of(line) - start - length - 20.0
        stage.add(Actor(name="oncoming", body=CAR, path=line, s=s, enters=1, beats=(comes,)))
