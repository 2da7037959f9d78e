"""Missions: what is asked can be done, what was done is judged, and nothing favours a branch."""

import math
from collections import Counter

import numpy as np
import pytest

from drivebyword.core.kinematics import CarConfig, CarState
from drivebyword.core.records import JUNCTION_INTENTS
from drivebyword.world.graph import RoadGraph
from drivebyword.world.judging import GoOnJudge, Moment, PaceJudge, PullOverJudge, StopJudge, is_beside
from drivebyword.world.mission import CRUISE, SLOW, Mission
from drivebyword.world.roads import TownConfig, build_town
from drivebyword.world.scenario import Scenario, draw_script, find_scenario
from drivebyword.world.starts import place_ego, place_for

CAR = CarConfig()


@pytest.fixture(scope="module")
def graph():
    return RoadGraph(build_town(TownConfig(style="grid", size=4, size_y=4, main_lanes=2, side_lanes=2, seed=3)))


def on_lane(graph, lane, ahead, speed=8.0, step=0, **changes):
    """The moment of a car on a lane, its front bumper `ahead` metres before the end."""
    line = graph.road_map.lanes[lane].line
    reach = CAR.length - CAR.rear_overhang
    s = graph.length(lane) - ahead - reach
    lengths = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    x, y = np.interp(s, lengths, line[:, 0]), np.interp(s, lengths, line[:, 1])
    k = min(int(np.searchsorted(lengths, s, side="right")) - 1, len(line) - 2)
    yaw = math.atan2(*(line[k + 1] - line[k])[::-1])
    state = CarState(x=float(x), y=float(y), yaw=yaw, speed=speed)
    match = graph.lane_at(state.x, state.y, state.yaw)
    values = {"step": step, "dt": 0.2, "state": state, "match": match, "ahead": ahead, "limit": 13.9}
    values |= {
        "planned": speed,
        "leader_gap": math.inf,
        "curved": False,
        "signal": None,
        "agents": np.zeros((0, 9), np.float32),
    }
    return Moment(**{**values, **changes})


def mission_on(graph, edge, script=(), seed=0):
    route = [edge]
    return Mission(graph, CAR, route, list(script), np.random.default_rng(seed), lambda intent, rng: intent, 0.2)


def crossroads(graph):
    """An edge that ends where left, straight and right exist, and so does the straight one after it."""
    for edge in sorted(graph.edges):
        ways = graph.branches(edge)
        if len(ways) == 3 and len(graph.branches(ways["straight"])) == 3:
            return edge
    raise AssertionError("no crossroads in the test town")


def lane_to(graph, edge, next_edge):
    return graph.links_between(edge, next_edge)[0].from_lane


@pytest.mark.parametrize("intent", JUNCTION_INTENTS)
def test_the_route_takes_the_told_branch_at_the_told_junction(graph, intent):
    edge = crossroads(graph)
    direction, second = intent.removesuffix("_second"), intent.endswith("_second")
    first = graph.branches(edge)["straight" if second else direction]
    mission = mission_on(graph, edge)
    mission.say("x", intent, on_lane(graph, lane_to(graph, edge, first), 60.0))
    expected = [edge, first] + ([graph.branches(first)[direction]] if second else [])
    assert mission.route[: len(expected)] == expected
    assert set(mission.ways) == set(graph.branches(expected[-2])) >= {direction}
    assert mission.instructions[-1].outcome == "pending"
    assert mission.instructions[-1].branches >= 2


@pytest.mark.parametrize("taken", ["left", "straight", "right"])
def test_the_branch_driven_decides_the_outcome(graph, taken):
    edge = crossroads(graph)
    ways = graph.branches(edge)
    mission = mission_on(graph, edge)
    mission.say("x", "left", on_lane(graph, lane_to(graph, edge, ways["left"]), 60.0))
    lane = graph.lanes_of(ways[taken])[0].id
    _, wrong = mission.update(on_lane(graph, lane, graph.length(lane) - 8.0, step=50))
    record = mission.instructions[-1]
    assert record.outcome == ("fulfilled" if taken == "left" else "missed")
    assert record.branch_taken == taken and record.branches == 3
    assert wrong == (taken != "left")
    assert mission.route[0] == ways[taken] and len(mission.route) >= 3, "planned on from where it went"


def test_a_branch_the_road_does_not_have_is_unfeasible(graph):
    edge = next(e for e in sorted(graph.edges) if "straight" not in graph.branches(e) and len(graph.branches(e)) == 2)
    mission = mission_on(graph, edge)
    mission.say("go straight", "straight", on_lane(graph, graph.lanes_of(edge)[0].id, 60.0))
    assert mission.instructions[-1].outcome == "unfeasible"
    assert mission.sentence == "go straight"


def test_an_unknown_meaning_is_driven_as_none(graph):
    mission = mission_on(graph, crossroads(graph))
    mission.say("lorem ipsum", None, on_lane(graph, graph.lanes_of(mission.route[0])[0].id, 60.0))
    record = mission.instructions[-1]
    assert record.outcome in ("pending", "unfeasible") and record.intent == "null"
    assert mission.speed_factor == CRUISE and not mission.hold
    with pytest.raises(ValueError, match="unknown intent"):
        mission.say("x", "sideways", on_lane(graph, graph.lanes_of(mission.route[0])[0].id, 60.0))


def test_too_late_for_this_junction_means_the_next(graph):
    edge = crossroads(graph)
    ways = graph.branches(edge)
    mission = mission_on(graph, edge)
    mission.say("x", "right", on_lane(graph, lane_to(graph, edge, ways["straight"]), 6.0, speed=12.0))
    assert mission.route[:2] == [edge, ways["straight"]]
    assert mission.route[2] == graph.branches(ways["straight"])["right"]


def test_a_new_sentence_ends_what_earlier_ones_asked_for(graph):
    edge = crossroads(graph)
    moment = on_lane(graph, graph.lanes_of(edge)[0].id, 70.0)
    mission = mission_on(graph, edge)
    mission.say("x", "slower", moment)
    assert mission.speed_factor == SLOW
    mission.say("x", "stop", moment)
    assert mission.hold and mission.speed_factor == CRUISE
    assert mission.instructions[1].outcome == "unfeasible", "overtaken before it could come true"
    mission.say("x", "go_on", moment)
    assert not mission.hold and not mission.pull_over


def test_sentences_come_only_where_they_can_be_followed(graph):
    edge = crossroads(graph)
    lane = lane_to(graph, edge, graph.branches(edge)["left"])
    for ahead, typed in ((10.0, False), (38.0, True)):
        mission = mission_on(graph, edge, ["left"])
        mission.update(on_lane(graph, lane, ahead, step=30))
        assert (mission.index == 1) == typed
    assert mission.script == []


def test_pace_is_judged_on_a_free_road_only(graph):
    edge = crossroads(graph)
    lane = graph.lanes_of(edge)[0].id
    judge = PaceJudge(faster=False)
    stuck = on_lane(graph, lane, 70.0, speed=2.0, leader_gap=5.0)
    outcomes = {judge.update(stuck, None) for _ in range(130)}
    assert outcomes == {None, "unfeasible"}
    judge, slow = PaceJudge(faster=False), on_lane(graph, lane, 70.0, speed=7.0)
    assert "fulfilled" in {judge.update(slow, None) for _ in range(10)}
    judge, same = PaceJudge(faster=True), on_lane(graph, lane, 70.0, speed=11.0)
    assert [judge.update(same, None) for _ in range(60)][-1] == "missed"


def test_going_on_counts_only_the_time_the_way_is_free(graph):
    lane = graph.lanes_of(crossroads(graph))[0].id
    red = on_lane(graph, lane, 5.0, speed=0.0, planned=0.0)
    free = on_lane(graph, lane, 5.0, speed=0.0, planned=0.4)
    judge = GoOnJudge()
    assert {judge.update(red, None) for _ in range(200)} == {None}
    assert "missed" in {judge.update(free, None) for _ in range(60)}
    assert GoOnJudge().update(on_lane(graph, lane, 5.0, speed=2.5), None) == "fulfilled"


@pytest.mark.parametrize("left_hand", [False, True])
def test_pulling_over_means_standing_at_the_kerb(graph, left_hand):
    graph = RoadGraph(graph.road_map.mirrored()) if left_hand else graph
    kerb = graph.road_map.kerb
    lane = graph.lanes_of(crossroads(graph))[0]
    widths = {lane.id: lane.width}

    def judged(aside: float, speed: float = 0.0) -> str | None:
        """Judge the car `aside` metres to the left of the lane's middle."""
        state = on_lane(graph, lane.id, 40.0, speed=speed).state
        state.x -= aside * math.sin(state.yaw)
        state.y += aside * math.cos(state.yaw)
        match = graph.lane_at(state.x, state.y, state.yaw)
        moment = on_lane(graph, lane.id, 40.0, speed=speed, state=state, match=match)
        return PullOverJudge(CAR, widths, kerb).update(moment, None)

    at_kerb = kerb * (lane.width / 2 - CAR.width / 2 - 0.3)
    assert judged(0.0) is None and judged(0.0, speed=5.0) is None
    assert judged(at_kerb) == "fulfilled" and judged(at_kerb, speed=5.0) is None
    assert judged(-at_kerb) is None


def test_stopping_has_a_deadline(graph):
    moving = on_lane(graph, graph.lanes_of(crossroads(graph))[0].id, 40.0, speed=5.0)
    judge = StopJudge()
    assert [judge.update(moving, None) for _ in range(70)].index("missed") == pytest.approx(60, abs=1)


def test_beside_means_in_the_next_lane_not_behind(graph):
    edge = next(e for e in sorted(graph.edges) if len(graph.lanes_of(e)) > 1)
    right, left = graph.lanes_of(edge)[:2]
    me, other = on_lane(graph, right.id, 40.0), on_lane(graph, left.id, 40.0)
    row = np.array([[other.state.x, other.state.y, 0, 4.4, 1.8, 1.5, 0, 0, 0]], np.float32)
    beside = on_lane(graph, right.id, 40.0, agents=row)
    assert is_beside(beside, 1, right.width)
    assert not is_beside(beside, -1, right.width)
    assert not is_beside(on_lane(graph, right.id, 5.0, agents=row), 1, right.width)
    del me


def test_scripts_ask_for_left_right_and_straight_equally_often():
    rng = np.random.default_rng(0)
    counts = Counter(intent for _ in range(3000) for intent in draw_script(rng, int(rng.integers(2, 5))))
    for suffix in ("", "_second"):
        branches = [counts[name + suffix] for name in ("left", "right", "straight")]
        assert max(branches) / min(branches) < 1.25
    assert set(counts) >= {"stop", "go_on", "pull_over", "slower", "faster", "lane_left", "lane_right"}


def test_scenes_follow_the_seed_and_the_splits_share_no_town():
    scenario = find_scenario("town-mixed")
    assert scenario.sample(7) == scenario.sample(7)
    assert scenario.sample(7) != scenario.sample(8)
    towns = [{scenario.sample(start + i).town for i in range(60)} for start in (0, 1_000_000, 2_000_000)]
    assert not (towns[0] & towns[1] or towns[0] & towns[2] or towns[1] & towns[2])
    weathers = [scenario.sample(i).weather for i in range(200)]
    assert any(w.night > 0 for w in weathers) and any(w.fog_visibility < 100 for w in weathers)
    assert all(Scenario(name="x").sample(i).weather.night == 0 for i in range(50))


def test_an_unknown_scenario_names_the_nearest():
    with pytest.raises(ValueError, match="town-night"):
        find_scenario("town-nigth")


def test_starts_offer_what_is_asked(graph):
    rng = np.random.default_rng(1)
    for intent in (*JUNCTION_INTENTS, "lane_left", "lane_right", "stop", None):
        spawn = place_for(graph, intent, rng)
        assert spawn is not None
        moment = on_lane(graph, spawn.lane, graph.length(spawn.lane) - spawn.position, speed=0.0)
        mission = Mission(graph, CAR, list(spawn.route), [], rng, lambda i, r: i, 0.2)
        mission.say("x", intent, moment)
        assert intent is None or mission.instructions[-1].outcome == "pending"
    for _ in range(20):
        spawn = place_ego(graph, rng)
        assert 4.4 < spawn.position < graph.length(spawn.lane)


def test_where_it_is_too_late_to_change_lanes_the_way_goes_on_as_the_lane_leads(graph):
    lanes = graph.road_map.lanes
    lane, wanted = next(
        (lane, edge)
        for edge_from in sorted(graph.edges)
        for lane in graph.lanes_of(edge_from)
        for edge in graph.branches(edge_from).values()
        if graph.links_from(lane.id) and not graph.leads(lane.id, edge)
    )
    mission = mission_on(graph, lane.edge)
    mission.route = [lane.edge, wanted]
    mission.update(on_lane(graph, lane.id, 20.0))
    assert mission.way[:2] == [lane.edge, wanted]
    changed, wrong = mission.update(on_lane(graph, lane.id, 3.0))
    assert changed and not wrong and mission.route[1] == wanted
    assert mission.way == [lane.edge, graph.beyond(lane.id)] and graph.leads(lane.id, mission.way[1])
    assert lanes[lane.id].edge == mission.way[0]
