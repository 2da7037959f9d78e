"""A stage being played: the ego's motion in; actors, signals and the truth about the edge case out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float

from drivebyword.core.edge import EdgeRecord
from drivebyword.core.kinematics import CarConfig, CarState
from drivebyword.world.cast import Cast, Cue
from drivebyword.world.edge import EdgeWatch
from drivebyword.world.stage import Stage
from drivebyword.world.traffic import Agents, Traffic

BARRED = 30.0
"""Metres before a blocked place within which standing is the end of the way."""


class Play:
    """One scene of a family, from the moment its actors come on."""

    def __init__(self, stage: Stage, traffic: Traffic, car: CarConfig, dt: float) -> None:
        self.stage, self.traffic, self.car, self.dt = stage, traffic, car, dt
        self.cast = Cast(tuple(stage.actors), dt, stage.seed)
        self.watch = EdgeWatch(stage, self.cast)
        self.grip = car if stage.friction is None else replace(car, friction=stage.friction)
        """The car on the road as it is: slippery or not."""
        self._red_s = stage.red_s
        # Nobody else may stand where the actors will act.
        traffic.invite(stage.graph, self.cast, [stage.way.line, *(actor.path for actor in stage.actors)])
        if stage.signals_off:
            traffic.signals.switch_off(stage.graph, stage.spawn.lane)
        if stage.held_green or stage.red_s:
            self._hold(green=stage.held_green)

    @property
    def record(self) -> EdgeRecord:
        """Return the truth about the edge case so far."""
        return self.watch.record

    def _hold(self, green: bool) -> None:
        self.traffic.signals.hold(self.stage.graph, self.stage.spawn.lane, self.stage.spawn.route[1], green)

    def cue(self, state: CarState, time_s: float) -> Cue:
        """Return what the cast reads of the ego."""
        s, _, _ = self.stage.way.locate(state.x, state.y)
        return Cue(time_s=time_s, s=s + self.car.front, speed=state.speed)

    def step(self, state: CarState, time_s: float) -> None:
        """Move the actors by one decision period; `state` is the ego at its start."""
        self.cast.step(self.cue(state, time_s))
        if 0.0 < self._red_s <= time_s:
            self._red_s = 0.0
            self._hold(green=True)

    def agents(self) -> Agents:
        """Return the actors that are there."""
        return self.cast.agents()

    def may_detour(self, state: CarState) -> bool:
        """Tell whether the oncoming lane may be used where the ego is."""
        detour = self.stage.detour
        return detour is not None and detour[0] <= self.cue(state, 0.0).s <= detour[1]

    def is_barred(self, state: CarState) -> bool:
        """Tell whether the ego is right before where nobody can go on."""
        barred = self.stage.barred_s
        return barred is not None and 0.0 < barred - self.cue(state, 0.0).s < BARRED

    def look(
        self, state: CarState, time_s: float, box: Float[np.ndarray, " 5"], seen: Callable[[], Bool[np.ndarray, " M"]]
    ) -> None:
        """Take in one moment; `seen` tells of every agent of the snapshot, the actors last, who can be seen."""
        count = len(self.cast.present())
        self.watch.look(self.cue(state, time_s), state, box, lambda: seen()[-count:])
