"""The truth about an edge case: a stage and what happens in; when it began, could be seen and was critical out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from drivebyword.core.edge import EdgeRecord
from drivebyword.core.kinematics import CarState
from drivebyword.core.records import AgentKind
from drivebyword.world.asks import Instant
from drivebyword.world.cast import Cast, Cue
from drivebyword.world.events import time_to_collision
from drivebyword.world.stage import Stage

CRITICAL_S = 1.5
"""Time to collision below which a moment is critical (facts of the field: minimum TTC under 1.5 s)."""


class EdgeWatch:
    """Watches one scene of a family."""

    def __init__(self, stage: Stage, cast: Cast) -> None:
        self.cast, self._stage = cast, stage
        self.record = EdgeRecord(family=stage.name, twin=stage.twin, preventable=stage.preventable)
        self._critical = False
        self._scripted = any(beat.edge for actor in cast.actors for beat in actor.beats)
        self._element = [k for k, actor in enumerate(cast.actors) if actor.name in stage.edge_actors]
        # A sign announces the event; it is not what one might meet.
        self._rows = [k for k in self._element if cast.actors[k].body.kind != AgentKind.SIGN]

    @property
    def keys(self) -> tuple[int, ...]:
        """Return the snapshot keys of what the twin goes without."""
        return tuple(self.cast.keys[k] for k in self._element)

    def rows(self) -> list[int]:
        """Return the cast's rows of those the scene is about who are there now."""
        return [row for row, k in enumerate(self.cast.present()) if k in self._rows]

    def look(
        self, cue: Cue, state: CarState, box: Float[np.ndarray, " 5"], seen: Callable[[], Bool[np.ndarray, " A"]]
    ) -> None:
        """Take in one moment.

        Args:
            cue: The ego on the stage's way.
            state: The ego.
            box: The ego's body: centre x, y, yaw, length, width.
            seen: Tells whether each actor who is there can be seen; asked until the cause has been.
        """
        record, rows = self.record, self.rows()
        # Without actors (a slippery bend) the case is the scene itself.
        if record.visible_s is None and (bool(rows) and seen()[rows].any() if self._rows else not record.twin):
            record.visible_s = cue.time_s
        if record.began_s is None:
            record.began_s = self.cast.edge_s if self._scripted else record.visible_s
        self._listen(cue, state, box)
        if not rows or record.began_s is None:
            return
        them = self.cast.agents().agents[rows].astype(np.float64)
        gap = float(np.hypot(them[:, 0] - box[0], them[:, 1] - box[1]).min())
        if record.closest_m is None or gap < record.closest_m:
            record.closest_m = gap
            if not self._critical:
                record.critical_s = cue.time_s
        if not self._critical and time_to_collision(box, cue.speed, them) < CRITICAL_S:
            self._critical, record.critical_s = True, cue.time_s

    def _listen(self, cue: Cue, state: CarState, box: Float[np.ndarray, " 5"]) -> None:
        """Let everything the family asks for look, and keep the first breach."""
        agents = self.cast.agents()
        names = [self.cast.actors[k].name for k in self.cast.present()]
        began = self.record.began_s
        now = Instant(
            time_s=cue.time_s,
            s=cue.s,
            aside=-self._stage.graph.road_map.kerb * self._stage.way.locate(state.x, state.y)[1],
            speed=cue.speed,
            accel=state.accel,
            box=box,
            them=dict(zip(names, agents.agents.astype(np.float64), strict=True)),
            lights=dict(zip(names, agents.lights.tolist(), strict=True)),
            since_s=0.0 if began is None else cue.time_s - began,
        )
        breaches = [ask(now) for ask in self._stage.asks]
        if self.record.breach is None:
            self.record.breach = next((breach for breach in breaches if breach is not None), None)
