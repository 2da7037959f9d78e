"""Roads to drive on, from wherever they come: a TownConfig or an OutsideMap in, a RoadMap with its signs out."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

from drivebyword.core.geometry import arc_lengths
from drivebyword.world.outside import NET, OutsideMap, imported
from drivebyword.world.roads import Lane, RoadMap, TownConfig, build_town, load_road_map
from drivebyword.world.signs import plan_signs

MapSource = TownConfig | OutsideMap


def build_map(config: MapSource, cache_dir: Path | None = None) -> RoadMap:
    """Return a town's or an outside map's roads; made once, then read from the cache."""
    if isinstance(config, OutsideMap):
        road_map = _circulating(load_road_map(imported(config, cache_dir) / NET), config.path)
        return replace(road_map, signs=plan_signs(road_map))
    road_map = build_town(config, cache_dir)
    return replace(road_map, signs=plan_signs(road_map)) if config.signs else road_map


def _circulating(road_map: RoadMap, path: Path) -> RoadMap:
    """Return the map with lines fit to drive along and without ways into streets that lead nowhere.

    A map cut out of the world ends in stubs, and cul-de-sacs end by themselves: no car of ours turns round on the
    spot, so nobody is sent there. Whoever starts there may leave. A map that is mostly such streets, or offers no
    choice without them, keeps them all: drives on it end where its roads do.
    """
    lanes = {name: replace(lane, line=_clean(lane)) for name, lane in road_map.lanes.items()}
    road_map = replace(road_map, links=tuple(link for link in road_map.links if link.direction != "turn"))
    onward: dict[str, set[str]] = defaultdict(set)
    for link in road_map.links:
        onward[lanes[link.from_lane].edge].add(lanes[link.to_lane].edge)
    alive = set(onward)
    while dead := {edge for edge in alive if not onward[edge] & alive}:
        alive -= dead
    links = tuple(link for link in road_map.links if lanes[link.to_lane].edge in alive)
    if not road_map.links:
        raise ValueError(f"map {path} has no junction: a drive needs at least one road that leads on into another")
    metres = {lane.edge: float(arc_lengths(lane.line)[-1]) for lane in lanes.values() if lane.kind == "drive"}
    enough = sum(metres[edge] for edge in alive) >= 0.5 * sum(metres.values())
    enough = enough and any(len(onward[edge] & alive) > 1 for edge in alive)
    return replace(road_map, lanes=lanes, links=links if enough else road_map.links)


def _clean(lane: Lane) -> np.ndarray:
    """Return a lane's line without places on top of each other."""
    line = lane.line
    if lane.kind == "walkarea" or len(line) < 2:
        return line
    fresh = np.r_[True, np.hypot(*np.diff(line, axis=0).T) > 0.02]
    return line[fresh] if fresh.sum() > 1 else line
