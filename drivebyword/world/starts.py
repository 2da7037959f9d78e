"""Where a scene begins: a town's roads and what is wanted in, the ego's place and route out."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from drivebyword.core.records import JUNCTION_INTENTS
from drivebyword.world.building import MapSource
from drivebyword.world.demand import Spawn
from drivebyword.world.graph import RoadGraph
from drivebyword.world.judging import direction_of
from drivebyword.world.outside import OutsideMap
from drivebyword.world.place import Place, Places
from drivebyword.world.roads import sample_town

if TYPE_CHECKING:
    from drivebyword.world.scenario import Scene


def settle(places: Places, scene: Scene, typed: tuple[str, str | None] | None) -> tuple[Place, Spawn]:
    """Choose town and start of a nominal scene; a typed instruction may need a town that offers it."""
    rng = np.random.default_rng([scene.seed, 5])
    config: MapSource = scene.town
    for attempt in range(24):
        place = places.get(config, scene.image)
        spawn = place_for(place.graph, typed[1], rng) if typed else place_ego(place.graph, rng)
        if spawn is not None:
            return place, spawn
        if isinstance(scene.town, OutsideMap):
            return place, _close_start(place.graph, scene.town, typed[1] if typed else None, rng)
        config = replace(sample_town(scene.town.seed + 7_000_000 + attempt), left_hand=scene.town.left_hand)
    raise ValueError(f"no town near seed {scene.seed} offers {typed[1] if typed else 'a start'!r}")


def _close_start(graph: RoadGraph, town: OutsideMap, intent: str | None, rng: np.random.Generator) -> Spawn:
    """Choose a start nearer to the junction than usual: real streets are cut into short pieces."""
    for before in (40.0, 25.0):
        spawn = place_for(graph, intent, rng, before)
        if spawn is not None:
            return spawn
    raise ValueError(f"map {town.path} has no place where one could be told {intent!r}: say something else")


def starting_speed(gap: float, ahead: float, limit: float, rng: np.random.Generator) -> float:
    """Draw a speed in m/s from which the car can still stop behind who is `gap` metres ahead, and at the junction."""
    room = max(0.0, min(gap - 8.0, ahead - 6.0))
    return float(min(rng.uniform(2.0, 0.8 * limit), math.sqrt(2 * 1.5 * room)))


def place_ego(graph: RoadGraph, rng: np.random.Generator) -> Spawn:
    """Choose a street, a lane and a place on it, far enough from the junction to be told something."""
    for least in (70.0, 55.0, 40.0, 25.0):
        edges = [e for e in sorted(graph.edges) if _length(graph, e) > least and graph.branches(e)]
        if edges:
            break
    else:
        raise ValueError(f"town {graph.road_map.id} has no street of 25 m to start on")
    edge = edges[int(rng.integers(len(edges)))]
    lanes = graph.lanes_of(edge)
    lane = lanes[int(rng.integers(len(lanes)))]
    high = _length(graph, edge) - 20.0
    position = float(rng.uniform(12.0, max(12.5, min(high, 60.0))))
    return Spawn(lane=lane.id, position=position, route=_route(graph, lane.id))


def place_for(graph: RoadGraph, intent: str | None, rng: np.random.Generator, before: float = 60.0) -> Spawn | None:
    """Choose a start from which an intent can be carried out soon, or None where the town has none.

    Args:
        graph: The town.
        intent: What will be asked for.
        rng: Draws one of the places that fit.
        before: Metres to a junction that is spoken of.
    """
    if intent in JUNCTION_INTENTS:
        places = _before_branch(graph, intent, before)
    elif intent in ("lane_left", "lane_right"):
        step = graph.to_left if intent == "lane_left" else -graph.to_left
        places = [
            (lane.id, graph.length(lane.id) - 85.0)
            for edge in sorted(graph.edges)
            for lane in graph.lanes_of(edge)
            if any(other.index == lane.index + step for other in graph.lanes_of(edge))
        ]
    else:
        edges = [e for e in sorted(graph.edges) if graph.branches(e)]
        places = [(graph.lanes_of(e)[0].id, graph.length(graph.lanes_of(e)[0].id) - 15.0 - before) for e in edges]
    places = [(lane, position) for lane, position in places if position > 8.0]
    if not places:
        return None
    lane, position = places[int(rng.integers(len(places)))]
    return Spawn(lane=lane, position=position, route=_route(graph, lane))


def _before_branch(graph: RoadGraph, intent: str, before: float) -> list[tuple[str, float]]:
    """Return lanes, and places `before` metres from their ends, from which a junction intent can be obeyed."""
    direction, second = direction_of(intent)
    lanes, places = graph.road_map.lanes, []
    for edge in sorted(graph.edges):
        ways = graph.branches(edge)
        first = ways.get("straight" if second else direction)
        if first is None or len(ways) < 2:
            continue
        after = graph.branches(first)
        if second and (direction not in after or len(after) < 2):
            continue
        for lane in graph.lanes_of(edge):
            if any(lanes[link.to_lane].edge == first for link in graph.links_from(lane.id)):
                places.append((lane.id, graph.length(lane.id) - before))
    return places


def _length(graph: RoadGraph, edge: str) -> float:
    return graph.length(graph.lanes_of(edge)[0].id)


def _route(graph: RoadGraph, lane: str, count: int = 5) -> tuple[str, ...]:
    """Return edges from a lane on, first where the lane itself leads, then straight, along the kerb or across."""
    lanes, usual = graph.road_map.lanes, ("straight", graph.road_map.near_side, graph.road_map.far_side)
    route = [lanes[lane].edge]
    reachable = {lanes[link.to_lane].edge for link in graph.links_from(lane)}
    while len(route) < count:
        ways = graph.branches(route[-1])
        ends = {name: edge for name, edge in ways.items() if len(route) > 1 or edge in reachable} or ways
        if not ends:
            break
        route.append(
            graph.way_out(route) or next((ends[name] for name in usual if name in ends), next(iter(ends.values())))
        )
    return tuple(route)
