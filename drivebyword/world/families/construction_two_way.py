"""Road works take the whole lane: round them against the oncoming traffic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from drivebyword.world.asks import leaves_time
from drivebyword.world.cast import AT_ONCE, BARRIER, CAR, CONE, Actor, Beat, arrives
from drivebyword.world.family import Family
from drivebyword.world.solids import SignKind
from drivebyword.world.stage import Range, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstructionTwoWay(Family):
    """20 to 60 m of works, and oncoming cars at 20 to 50 km/h, 3 to 9 s apart."""

    name: ClassVar[str] = "construction_two_way"
    source: ClassVar[str] = "Bench2Drive ConstructionObstacleTwoWays; NHTSA opposite direction"
    limit_kph: Range = (30.0, 50.0)
    works: Range = (20.0, 60.0)
    oncoming_kph: Range = (20.0, 50.0)
    headway_s: Range = (3.0, 9.0)

    def build(self, stage: Stage) -> None:
        """Fence the lane off, and let three cars come the other way; then the lane is free."""
        stage.on_road(stage.draw(self.limit_kph))
        start, length = stage.ego_s + stage.draw((80.0, 110.0)), stage.draw(self.works)
        stage.detour = (start - 60.0, start + length + 60.0)
        stage.sign(SignKind.WORKS, start - 40.0)
        for k in range(int(length / 5.0) + 1):
            stage.edge(stage.standing(f"cone {k}", CONE, start + 5.0 * k, stage.lane_width / 2 - 0.3))
        for name, s in (("near barrier", start), ("far barrier", start + length)):
            stage.edge(stage.standing(name, BARRIER, s))
        stage.ask(leaves_time(2.0))
        pace = stage.draw(self.oncoming_kph) / 3.6
        s = 60.0 - 4.0 * pace
        line = stage.beside(stage.lane_width)[::-1]
        meets = stage.length_of(line) - (start + length)
        for k in range(3):
            s -= stage.draw(self.headway_s) * pace
            name = f"oncoming {k}"
            beat = Beat(when=arrives(start, 9.0), speed=pace, accel=AT_ONCE, edge=k == 0 and not stage.twin)
            stage.add(Actor(name=name, body=CAR, path=line, s=meets - 90.0 + s, enters=1, beats=(beat,)))
