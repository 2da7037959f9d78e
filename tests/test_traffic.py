"""SUMO behind Traffic: the ego where we put it, others that mind it, plans without delay, repeatable."""

import itertools
import math

import numpy as np
import pytest

from drivebyword.core.kinematics import CarConfig
from drivebyword.core.records import AgentKind, SignalState
from drivebyword.world.demand import Demand, Spawn, Streets, first_round, write_demand
from drivebyword.world.graph import RoadGraph
from drivebyword.world.roads import TownConfig, build_town
from drivebyword.world.starts import place_ego
from drivebyword.world.traffic import Traffic

DT = 0.2
CAR = CarConfig()


@pytest.fixture(scope="module")
def town():
    road_map = build_town(TownConfig(style="grid", size=3, size_y=3, signal_share=1.0, bend=0.0, jitter=0.0, seed=5))
    return road_map, RoadGraph(road_map), Streets(road_map)


def start(town, seed=1, vehicles=25, people=10, spawn=None):
    road_map, graph, streets = town
    spawn = spawn or place_ego(graph, np.random.default_rng(seed))
    traffic = Traffic(CAR, DT)
    state = traffic.reset(road_map, streets, Demand(vehicles=vehicles, people=people), spawn, seed)
    return traffic, state, spawn


def free_spawn(town, ahead):
    """A start whose front bumper is `ahead` metres before the end of its lane."""
    _, graph, _ = town
    edge = sorted(graph.edges)[0]
    lane = graph.lanes_of(edge)[0]
    next_edge = sorted(graph.branches(edge).items())[0][1]
    return Spawn(lane=lane.id, position=graph.length(lane.id) - ahead, route=(edge, next_edge))


def test_everybody_is_on_the_road_when_the_ego_joins(town):
    traffic, _, _ = start(town)
    agents = traffic.agents(radius=1000.0)
    assert (agents.kind != AgentKind.PEDESTRIAN).sum() >= 23
    assert (agents.kind == AgentKind.PEDESTRIAN).sum() >= 8
    assert len(set(agents.key.tolist())) == len(agents.key)
    assert np.isfinite(agents.agents).all()
    moving = np.hypot(agents.agents[:, 6], agents.agents[:, 7]) > 0.5
    assert moving.mean() > 0.3, "traffic moves from the first decision on"


def test_the_ego_stands_where_the_spawn_says(town):
    import libsumo

    _, state, spawn = start(town)
    x, y = libsumo.vehicle.getPosition("ego")
    reach = CAR.length - CAR.rear_overhang
    assert math.hypot(state.x + reach * math.cos(state.yaw) - x, state.y + reach * math.sin(state.yaw) - y) < 0.05
    assert libsumo.vehicle.getLaneID("ego") == spawn.lane
    _, graph, _ = town
    match = graph.lane_at(state.x, state.y, state.yaw)
    assert match.lane == spawn.lane and abs(match.offset) < 0.1


def test_same_seed_same_agents_and_another_seed_others(town):
    def run(seed):
        traffic, state, _ = start(town, seed=seed)
        for _ in range(20):
            rows = traffic.agents()
            traffic.step(state)
        return rows.agents.tobytes() + traffic.signals.read().tobytes()

    first = run(3)
    assert run(3) == first
    assert run(4) != first


def test_the_plan_speeds_up_on_a_free_road_and_stops_at_red(town):
    spawn = free_spawn(town, ahead=60.0)
    traffic, state, _ = start(town, vehicles=0, people=0, spawn=spawn)
    heading, speed, top, stood_red = state.yaw, 0.0, 0.0, False
    for _ in range(300):
        plan = traffic.speed_plan()
        if plan.signal is not None and plan.signal.state == SignalState.RED and speed == 0.0 and top > 0.0:
            stood_red = plan.signal.distance < 3.0 and plan.speed < 0.1
            break
        if plan.signal is None or plan.signal.distance > 100.0:
            break
        speed = max(0.0, plan.speed)
        top = max(top, speed)
        state.x += speed * DT * math.cos(heading)
        state.y += speed * DT * math.sin(heading)
        state.speed = speed
        traffic.step(state)
    assert top > 5.0
    assert abs(plan.accel) < 4.0, "planned from the present speed, not from the one before"
    assert stood_red or plan.signal is None or plan.signal.distance > 100.0 or plan.signal.state != SignalState.RED


def test_who_follows_stops_behind_a_standing_ego(town):
    traffic, state, _ = start(town, vehicles=60, people=0)
    for _ in range(150):
        agents = traffic.agents(radius=30.0).agents
        dx, dy = agents[:, 0] - state.x, agents[:, 1] - state.y
        along = dx * math.cos(state.yaw) + dy * math.sin(state.yaw)
        across = dy * math.cos(state.yaw) - dx * math.sin(state.yaw)
        behind = (along < 0) & (np.abs(across) < 1.0)
        gap = -along[behind] - agents[behind, 3] / 2 - CAR.rear_overhang
        assert (gap > 0.3).all()
        traffic.step(state)


def test_a_second_world_in_one_process_is_refused_not_mixed_up(town):
    first, state, _ = start(town, seed=1)
    start(town, seed=2)
    with pytest.raises(RuntimeError, match="one world a process"):
        first.step(state)


def test_walks_follow_legal_branches_and_ids_match_bodies(town):
    road_map, graph, streets = town
    rng = np.random.default_rng(0)
    walk = streets.walk(streets.edges[0], 30, rng)
    assert len(walk) == 31
    assert all(b in graph.branches(a).values() or graph.direction(a, b) for a, b in itertools.pairwise(walk))
    spawn = place_ego(graph, rng)
    text, people = write_demand(streets, Demand(vehicles=7, people=4), spawn, CAR, 9)
    assert text.count("<vehicle ") == 8 and text.count("<person ") == 4
    assert len(people.vehicle_rows) == 7 and len(people.person_rows) == 4
    assert (people.size > 0).all()
    del road_map


def test_a_route_is_cut_before_it_comes_round_again():
    assert first_round(["a", "b", "c", "a", "d"]) == ["a", "b", "c"]
    assert first_round(["a", "b"]) == ["a", "b"]
