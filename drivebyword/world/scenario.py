"""Recipes for scenes: a scenario's name and a seed in, one concrete start out.

The seed decides everything: the town (from a pool of its split), who is on the road, the light, the
passenger's script. Splits follow `core.seeds`; no town is shared between splits.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import numpy as np

from drivebyword.core.records import JUNCTION_INTENTS, Weather
from drivebyword.core.seeds import split_of
from drivebyword.world.demand import Spawn
from drivebyword.world.graph import RoadGraph
from drivebyword.world.judging import direction_of
from drivebyword.world.roads import TownConfig, town_for_scene

CONDITIONS = ("day", "night", "fog")

INTENT_SHARES = {
    # Left, right and straight are equally frequent: a driver who ignores the sentence gains nothing by habit.
    "left": 0.17,
    "right": 0.17,
    "straight": 0.17,
    "left_second": 0.05,
    "right_second": 0.05,
    "straight_second": 0.05,
    "stop": 0.08,
    "pull_over": 0.06,
    "slower": 0.055,
    "faster": 0.055,
    "lane_left": 0.035,
    "lane_right": 0.035,
    "follow": 0.01,
    "null": 0.01,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One concrete start."""

    scenario: str
    seed: int
    town: TownConfig
    vehicles: int
    people: int
    weather: Weather
    script: tuple[str, ...]
    """Intents, in the order they are asked for."""
    time_limit_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Ranges a scene is drawn from; both ends included."""

    name: str
    instructions: tuple[int, int] = (2, 4)
    vehicles: tuple[int, int] = (8, 36)
    people: tuple[int, int] = (5, 25)
    conditions: tuple[float, float, float] = (1.0, 0.0, 0.0)
    """Shares of day, night and fog."""
    night: tuple[float, float] = (0.6, 1.0)
    fog_visibility: tuple[float, float] = (35.0, 90.0)
    town: TownConfig | None = None
    """One town for every seed, instead of the split's pool."""

    def sample(self, seed: int) -> Scene:
        """Draw the scene of a seed."""
        split_of(seed)
        rng = np.random.default_rng([seed, 3])
        condition = CONDITIONS[int(rng.choice(3, p=self.conditions))]
        night, fog = float(rng.uniform(*self.night)), float(rng.uniform(*self.fog_visibility))
        weather = Weather(
            night=night if condition == "night" else 0.0, fog_visibility=fog if condition == "fog" else 1000.0
        )
        count = int(rng.integers(self.instructions[0], self.instructions[1] + 1))
        script = draw_script(rng, count)
        return Scene(
            scenario=self.name,
            seed=seed,
            town=self.town or town_for_scene(seed),
            vehicles=int(rng.integers(self.vehicles[0], self.vehicles[1] + 1)),
            people=int(rng.integers(self.people[0], self.people[1] + 1)),
            weather=weather,
            script=script,
            time_limit_s=140.0 + 45.0 * len(script),
        )


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(name="town"),
        Scenario(name="town-night", conditions=(0.0, 1.0, 0.0)),
        Scenario(name="town-fog", conditions=(0.0, 0.0, 1.0)),
        Scenario(name="town-mixed", conditions=(0.6, 0.2, 0.2)),
    )
}


def find_scenario(name: str) -> Scenario:
    """Return a scenario by name. Raises ValueError with the nearest names."""
    if name in SCENARIOS:
        return SCENARIOS[name]
    near = difflib.get_close_matches(name, SCENARIOS, n=3, cutoff=0.4) or list(SCENARIOS)
    raise ValueError(f"unknown scenario {name!r}: did you mean {', '.join(near)}?")


def draw_script(rng: np.random.Generator, count: int) -> tuple[str, ...]:
    """Draw `count` intents; a stop that is not the last is followed by go on."""
    names, shares = list(INTENT_SHARES), np.array(list(INTENT_SHARES.values()))
    script: list[str] = []
    while len(script) < count:
        intent = names[int(rng.choice(len(names), p=shares / shares.sum()))]
        if script and intent == script[-1] and intent not in JUNCTION_INTENTS:
            continue
        script.append(intent)
        if intent in ("stop", "pull_over") and len(script) < count:
            script.append("go_on")
    return tuple(script)


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


def place_for(graph: RoadGraph, intent: str | None, rng: np.random.Generator) -> Spawn | None:
    """Choose a start from which an intent can be carried out soon, or None where the town has none."""
    if intent in JUNCTION_INTENTS:
        places = _before_branch(graph, intent)
    elif intent in ("lane_left", "lane_right"):
        side = 1 if intent == "lane_left" else -1
        places = [
            (lane.id, graph.length(lane.id) - 85.0)
            for edge in sorted(graph.edges)
            for lane in graph.lanes_of(edge)
            if any(other.index == lane.index + side for other in graph.lanes_of(edge))
        ]
    else:
        places = [(graph.lanes_of(e)[0].id, graph.length(graph.lanes_of(e)[0].id) - 75.0) for e in sorted(graph.edges)]
    places = [(lane, position) for lane, position in places if position > 8.0]
    if not places:
        return None
    lane, position = places[int(rng.integers(len(places)))]
    return Spawn(lane=lane, position=position, route=_route(graph, lane))


def _before_branch(graph: RoadGraph, intent: str) -> list[tuple[str, float]]:
    """Return lanes, and places 60 m before their ends, from which a junction intent can be obeyed."""
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
                places.append((lane.id, graph.length(lane.id) - 60.0))
    return places


def _length(graph: RoadGraph, edge: str) -> float:
    return graph.length(graph.lanes_of(edge)[0].id)


def _route(graph: RoadGraph, lane: str, count: int = 5) -> tuple[str, ...]:
    """Return edges from a lane on, first where the lane itself leads, then straight, right or left."""
    lanes = graph.road_map.lanes
    route = [lanes[lane].edge]
    reachable = {lanes[link.to_lane].edge for link in graph.links_from(lane)}
    while len(route) < count:
        ways = graph.branches(route[-1])
        ends = {name: edge for name, edge in ways.items() if len(route) > 1 or edge in reachable} or ways
        if not ends:
            break
        route.append(
            next((ends[name] for name in ("straight", "right", "left") if name in ends), next(iter(ends.values())))
        )
    return tuple(route)
