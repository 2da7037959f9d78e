"""Vehicles of ours among SUMO's: a cast in, orders to SUMO out, so that its vehicles see who is scripted.

A guest is a SUMO vehicle that we put where its script says, every step; SUMO's own keep their distance to it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from drivebyword.core.geometry import resample
from drivebyword.world.demand import EGO
from drivebyword.world.graph import RoadGraph

if TYPE_CHECKING:
    from drivebyword.world.cast import Actor, Cast


class Guests:
    """The part of a cast that SUMO knows."""

    def __init__(self, sumo: Any, graph: RoadGraph, cast: Cast) -> None:
        self.sumo, self.graph, self.cast = sumo, graph, cast
        self.keys: dict[str, int] = {}
        """Names of those in SUMO now, and their keys in the snapshot."""
        self._left: set[str] = set()

    def move(self) -> None:
        """Put everybody where the cast has them; who has just come enters."""
        now = self.cast.agents()
        for row, k in enumerate(self.cast.present()):
            actor, name = self.cast.actors[k], f"guest{k}"
            if not actor.in_traffic or name in self._left:
                continue
            x, y, yaw, length = (float(v) for v in now.agents[row, :4])
            if name not in self.keys and not self._enter(name, actor, self.cast.arc(k)):
                self._left.add(name)
                continue
            self.keys[name] = self.cast.keys[k]
            front = length / 2
            try:
                self.sumo.vehicle.moveToXY(
                    name, "", -1, x + front * math.cos(yaw), y + front * math.sin(yaw), 90.0 - math.degrees(yaw), 1
                )
                self.sumo.vehicle.setPreviousSpeed(name, float(np.hypot(now.agents[row, 6], now.agents[row, 7])))
            except self.sumo.TraCIException:
                # It came to the end of the roads SUMO knows: from here on only our own sensors see it.
                self._left.add(name)
                self.keys.pop(name)

    def _enter(self, name: str, actor: Actor, s: float) -> bool:
        """Add a vehicle that SUMO believes to follow the actor's path; False where that is on no street."""
        edges = self._edges(actor.path, s)
        if not edges:
            return False
        vehicle = self.sumo.vehicle
        self.sumo.route.add(f"way of {name}", edges)
        vehicle.add(name, f"way of {name}", typeID="ego", departLane="first", departPos="0", departSpeed="0")
        vehicle.setLength(name, actor.body.length)
        vehicle.setWidth(name, actor.body.width)
        vehicle.setLaneChangeMode(name, 0)
        return True

    def _edges(self, path: Float[np.ndarray, "P 2"], s: float) -> list[str]:
        """Return the streets a path follows from an arc length on."""
        line = resample(path, 4.0)
        heading = np.arctan2(*np.diff(line, axis=0).T[::-1])
        edges: list[str] = []
        for (x, y), yaw in zip(line[int(max(s, 0.0) / 4.0) : -1], heading[int(max(s, 0.0) / 4.0) :], strict=True):
            match = self.graph.lane_at(float(x), float(y), float(yaw))
            if match is None or match.internal or match.wrong_way or match.edge in edges:
                continue
            if edges and match.edge not in self.graph.branches(edges[-1]).values():
                break
            edges.append(match.edge)
        return edges

    def clear(self, line: Float[np.ndarray, "P 2"], radius: float) -> None:
        """Take SUMO's own vehicles off a line, so that nobody stands where the cast will act."""
        vehicle = self.sumo.vehicle
        for name in vehicle.getIDList():
            if name == EGO or name in self.keys:
                continue
            x, y = vehicle.getPosition(name)
            if np.hypot(line[:, 0] - x, line[:, 1] - y).min() < radius:
                vehicle.remove(name)
