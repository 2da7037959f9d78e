"""DrivingEnv: a gymnasium environment that repeats itself exactly, and in which the expert arrives."""

import hashlib
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from drivebyword.core.kinematics import CarConfig, CarState
from drivebyword.core.records import EGO_FIELDS, AgentKind, Event
from drivebyword.core.rig import Weather
from drivebyword.world.env import DrivingEnv
from drivebyword.world.events import Referee, ego_box, time_to_collision
from drivebyword.world.graph import RoadGraph
from drivebyword.world.reflex import Reflexes, about_to_hit
from drivebyword.world.roads import TownConfig, build_town

SEED = 11

HASHES = """
import hashlib, numpy as np
from drivebyword.world.env import DrivingEnv
env, digest = DrivingEnv(), hashlib.sha256()
env.reset(seed=11)
for k in range(25):
    seen = env.observation()
    for part in (*seen.cameras.values(), seen.lidar, seen.radar, seen.radar_valid, seen.ego):
        digest.update(np.ascontiguousarray(part).tobytes())
    digest.update(seen.instruction.encode())
    env.step(env.expert().act[0])
print(digest.hexdigest())
"""


@pytest.fixture(scope="module")
def env():
    return DrivingEnv(render_sensors=False)


@pytest.fixture(scope="module")
def graph():
    return RoadGraph(
        build_town(TownConfig(style="grid", size=3, size_y=3, signal_share=1.0, bend=0.0, jitter=0.0, seed=5))
    )


def drive(env, seed, options=None, steps=2000):
    """Let the expert drive; return events, info and how far it got."""
    _, info = env.reset(seed=seed, options=options)
    events = 0
    while info["ended"] is None and steps:
        *_, info = env.step(env.expert().act[0])
        events |= info["events"]
        steps -= 1
    return Event(events), info


@pytest.mark.filterwarnings("ignore:.*Box.*")
def test_gymnasium_accepts_it():
    check_env(DrivingEnv(), skip_render_check=True)


@pytest.mark.slow
def test_same_seed_same_bytes_from_every_sensor_in_three_processes():
    found = set()
    for hash_seed in ("0", "1", "77"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", HASHES], env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr[-2000:]
        found.add(done.stdout.strip())
    assert len(found) == 1


def test_a_scene_does_not_depend_on_the_scenes_before_it(env):
    def digest(seed):
        env.reset(seed=seed)
        found = hashlib.sha256()
        for _ in range(15):
            *_, info = env.step(env.expert().act[0])
            found.update(info["snapshot"]["agents"].tobytes() + env.observation().ego.tobytes())
        return found.hexdigest()

    alone = digest(SEED)
    env.reset(seed=SEED + 1)
    env.step(env.expert().act[0])
    env.expert()  # leaves a step half taken
    assert digest(SEED) == alone
    assert digest(SEED + 1) != alone


def test_asking_the_expert_changes_nothing(env):
    def run(ask):
        env.reset(seed=SEED)
        for _ in range(10):
            if ask:
                env.expert()
            env.step(np.array([0.0, 0.3, 0.0]))
        return env.snapshot().agents.tobytes()

    assert run(True) == run(False)


def test_the_expert_arrives_and_every_instruction_comes_true(env):
    for seed in (5,):
        events, info = drive(env, seed)
        assert info["ended"] == "arrived", (seed, info["ended"], events)
        assert events == Event.ARRIVED
        assert info["route_completion"] == pytest.approx(1.0)
        assert [r.outcome for r in env.mission.instructions if r.outcome != "unfeasible"] == ["fulfilled"] * sum(
            r.outcome != "unfeasible" for r in env.mission.instructions
        )


def test_a_typed_sentence_is_driven_from_a_start_that_offers_it(env):
    _, info = env.reset(seed=2_000_001, options={"instruction": ("take a left at the lights", "left")})
    assert env.observation().instruction == "take a left at the lights"
    assert info["instruction_index"] == 1 and len(env.graph.branches(env.mission.route[0])) >= 2
    events, info = drive(env, 2_000_001, {"instruction": ("take a left at the lights", "left")})
    assert info["ended"] == "arrived", (info, events)
    assert env.mission.instructions[1].branch_taken == "left"


def test_a_sentence_typed_while_driving_starts_the_trip_meters(env):
    env.reset(seed=SEED)
    for _ in range(30):
        env.step(env.expert().act[0])
    before = dict(zip(EGO_FIELDS, env.observation().ego))
    assert before["trip_distance"] > 0 or before["standing_s"] > 0
    env.say("pull over please", "pull_over")
    after = dict(zip(EGO_FIELDS, env.observation().ego))
    assert after["trip_distance"] == after["trip_heading"] == after["standing_s"] == 0
    assert env.observation().instruction == "pull over please"
    for _ in range(150):
        *_, info = env.step(env.expert().act[0])
        if info["ended"]:
            break
    assert {r.outcome for r in env.mission.instructions if r.sentence == "pull over please"} == {"fulfilled"}


def test_nobody_at_the_wheel_ends_in_a_collision_or_off_the_road(env):
    _, info = env.reset(seed=SEED)
    events = 0
    while info["ended"] is None:
        _, _, terminated, truncated, info = env.step(np.array([0.15, 0.6, 0.0]))
        events |= info["events"]
    assert info["ended"] in ("collision", "offroad") and terminated and not truncated
    assert Event(events) & (Event.OFFROAD | Event.COLLISION_VEHICLE | Event.COLLISION_STATIC | Event.COLLISION_PERSON)
    with pytest.raises(RuntimeError, match="reset"):
        env.step(np.zeros(3))


def test_a_car_that_never_starts_times_out_early(env):
    _, info = env.reset(seed=5)
    steps = 0
    while info["ended"] is None:
        _, _, _, truncated, info = env.step(np.array([0.0, 0.0, 1.0]))
        steps += 1
    assert info["ended"] == "timeout" and truncated and info["events"] & Event.TIMEOUT
    assert steps * env.dt < env.scene.time_limit_s


def test_wrong_use_is_answered_in_one_line(env):
    env.reset(seed=SEED)
    for bad in (np.array([np.nan, 0, 0]), np.array([0, np.inf, 0]), np.zeros(2)):
        with pytest.raises(ValueError, match="three finite numbers"):
            env.step(bad)
    with pytest.raises(ValueError, match="did you mean town"):
        env.reset(seed=1, options={"scenario": "twon"})
    with pytest.raises(ValueError, match="unknown option"):
        env.reset(seed=1, options={"sceanrio": "town"})
    with pytest.raises(ValueError, match="wording"):
        env.reset(seed=1, options={"wording": "validation"})
    with pytest.raises(ValueError, match="seed"):
        env.reset(seed=2**33)


def test_weather_can_be_set_and_is_kept_out_of_a_day_scenario(env):
    env.reset(seed=3, options={"weather": Weather(night=1.0)})
    assert env.weather.night == 1.0
    env.reset(seed=3)
    assert env.weather == Weather()


# --------------------------------------------------------------------------- the referee


def on_street(graph, ahead=40.0, speed=8.0):
    """A car on the first street, its lane and where its stop line is."""
    straight = [e for e in sorted(graph.edges) if len(graph.lanes_of(e)[0].line) == 2]
    lane = graph.lanes_of(straight[0])[0]
    line, length = lane.line, graph.length(lane.id)
    heading = math.atan2(*(line[-1] - line[-2])[::-1])
    back = ahead + 3.55
    end = line[-1]
    state = CarState(
        x=float(end[0] - back * math.cos(heading)), y=float(end[1] - back * math.sin(heading)), yaw=heading, speed=speed
    )
    assert length > back
    return state, lane


def judge(referee, graph, state, agents=(), kinds=(), red=False, before=None):
    rows = np.array(agents, np.float32).reshape(-1, 9)
    before = before or state
    at = [graph.lane_at(s.x, s.y, s.yaw) for s in (before, state)]
    return referee.judge(before, state, at[0], at[1], rows, np.array(kinds, np.int64), np.arange(len(rows)), red)


def beside(state, forward, left, yaw=0.0, speed=0.0, length=4.4, width=1.8):
    """An agent's row, given in the frame of the ego's box centre."""
    car = CarConfig()
    box = ego_box(state, car)
    c, s = math.cos(state.yaw), math.sin(state.yaw)
    turn = state.yaw + yaw
    x, y = box[0] + forward * c - left * s, box[1] + forward * s + left * c
    return [x, y, turn, length, width, 1.5, speed * math.cos(turn), speed * math.sin(turn), 0.0]


@pytest.fixture
def referee(graph):
    return Referee(graph, CarConfig(), np.zeros((0, 5)), 0.2)


@pytest.mark.parametrize(
    ("forward", "left", "their_speed", "our_speed", "fault"),
    [
        (4.3, 0.0, 0.0, 5.0, True),  # into who stands ahead
        (4.3, 0.0, 3.0, 6.0, True),  # with the front into who drives
        (-4.3, 0.0, 9.0, 6.0, False),  # struck from behind
        (4.3, 0.0, 3.0, 0.0, False),  # while standing
        (-1.5, 1.7, 6.0, 6.0, False),  # from the side, inside one's own lane
    ],
)
def test_fault_is_told_from_how_they_met(referee, graph, forward, left, their_speed, our_speed, fault):
    state, _ = on_street(graph, speed=our_speed)
    event = judge(referee, graph, state, [beside(state, forward, left, speed=their_speed)], [AgentKind.CAR])
    assert event & Event.COLLISION_VEHICLE
    assert bool(event & Event.AT_FAULT) == fault


def test_people_and_cyclists_count_as_persons_and_distance_as_nothing(referee, graph):
    state, _ = on_street(graph)
    person = beside(state, 2.3, 0.2, length=0.4, width=0.5)
    for kind in (AgentKind.PEDESTRIAN, AgentKind.BICYCLE):
        assert judge(referee, graph, state, [person], [kind]) & Event.COLLISION_PERSON
    assert judge(referee, graph, state, [beside(state, 6.0, 0.0)], [AgentKind.CAR]) == Event.NONE


def test_people_may_squeeze_past_a_car_that_stands_and_walk_on_when_it_starts(referee, graph):
    standing, _ = on_street(graph, speed=0.0)
    person = beside(standing, 2.3, 0.2, length=0.4, width=0.5)
    for _ in range(4):
        event = judge(referee, graph, standing, [person], [AgentKind.PEDESTRIAN])
    assert event == Event.NONE
    starting, _ = on_street(graph, speed=0.4)
    assert judge(referee, graph, starting, [person], [AgentKind.PEDESTRIAN]) == Event.NONE
    assert judge(referee, graph, starting) == Event.NONE
    assert judge(referee, graph, starting, [person], [AgentKind.PEDESTRIAN]) & Event.COLLISION_PERSON


def test_passing_a_red_line_is_seen_and_a_green_one_is_not(referee, graph):
    before, lane = on_street(graph, ahead=0.6)
    assert lane.id in graph.road_map.stop_lines
    after, _ = on_street(graph, ahead=-0.9)
    assert judge(referee, graph, after, before=before, red=True) & Event.RED_LIGHT
    assert not judge(referee, graph, after, before=before, red=False) & Event.RED_LIGHT
    short, _ = on_street(graph, ahead=2.5)
    assert not judge(referee, graph, short, before=short, red=True) & Event.RED_LIGHT


def test_off_the_road_and_against_traffic(referee, graph):
    state, lane = on_street(graph)
    assert judge(referee, graph, state) == Event.NONE
    aside = CarState(x=state.x + 9 * math.sin(state.yaw), y=state.y - 9 * math.cos(state.yaw), yaw=state.yaw, speed=5.0)
    assert judge(referee, graph, aside) & Event.OFFROAD
    across = lane.width
    other = CarState(
        x=state.x - across * math.sin(state.yaw), y=state.y + across * math.cos(state.yaw), yaw=state.yaw, speed=5.0
    )
    found = [judge(referee, graph, other) for _ in range(9)]
    assert not found[0] & Event.WRONG_WAY and found[-1] & Event.WRONG_WAY


def test_something_solid_is_a_collision(graph):
    state, _ = on_street(graph)
    box = ego_box(state, CarConfig())
    referee = Referee(graph, CarConfig(), np.array([[box[0] + 2.5, box[1], 0.0, 1.0, 1.0]]), 0.2)
    assert judge(referee, graph, state) & Event.COLLISION_STATIC


def test_time_to_collision_is_gap_over_closing_speed(graph):
    state, _ = on_street(graph, speed=10.0)
    box = ego_box(state, CarConfig())
    row = np.array([beside(state, 4.4 + 12.0, 0.0, speed=2.0)])
    assert time_to_collision(box, 10.0, row) == pytest.approx(1.5, abs=0.16)
    assert time_to_collision(box, 2.0, row) == math.inf
    assert time_to_collision(box, 10.0, np.zeros((0, 9))) == math.inf


def test_a_stop_line_does_not_reach_across_town(referee, graph):
    far, lane = on_street(graph, ahead=40.0)
    line = graph.road_map.stop_lines[lane.id].mean(axis=0)
    # Beside the line's prolongation, 12 m to the side: passing it there is passing nothing.
    side = np.array([-math.sin(far.yaw), math.cos(far.yaw)]) * 12.0
    start = line + side - 4.5 * np.array([math.cos(far.yaw), math.sin(far.yaw)])
    before = CarState(x=float(start[0]), y=float(start[1]), yaw=far.yaw, speed=10.0)
    after = CarState(x=before.x + 2 * math.cos(far.yaw), y=before.y + 2 * math.sin(far.yaw), yaw=far.yaw, speed=10.0)
    match = graph.lane_at(far.x, far.y, far.yaw)
    event = referee.judge(
        before, after, match, match, np.zeros((0, 9), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64), True
    )
    assert not event & Event.RED_LIGHT


def test_others_brake_for_a_car_across_their_path_and_only_then(graph):
    state, _ = on_street(graph, speed=0.0)
    box = ego_box(state, CarConfig())
    crossing = beside(state, 0.0, -9.0, yaw=math.pi / 2, speed=8.0)
    passed = beside(state, 0.0, 6.0, yaw=math.pi / 2, speed=8.0)
    oncoming = beside(state, 15.0, 3.3, yaw=math.pi, speed=10.0)
    rows = np.array([crossing, passed, oncoming])
    assert about_to_hit(box, 0.0, 0.0, rows).tolist() == [True, False, False]


def test_others_brake_for_a_car_astride_their_lane_and_for_one_that_may_brake(graph):
    state, _ = on_street(graph, speed=6.0)
    box = ego_box(state, CarConfig())
    astride = beside(state, -6.0, 1.7, speed=11.0)
    next_lane = beside(state, -6.0, 3.2, speed=11.0)
    # Across its path, but gone by the time it gets there, unless it brakes now.
    behind = beside(state, 3.5, -7.5, yaw=math.pi / 2, speed=8.0)
    assert about_to_hit(box, 1.0, 0.0, np.array([astride, next_lane])).tolist() == [True, False]
    assert about_to_hit(box, 6.0, 0.0, np.array([behind])).tolist() == [True]


class Orders:
    """Stands in for SUMO where everybody has waited in a junction for long."""

    def __init__(self) -> None:
        self.vehicle, self.told, self.leader = self, {}, None

    def getLaneID(self, name):  # noqa: N802 - SUMO's name
        return ":A_0_0"

    def getWaitingTime(self, name):  # noqa: N802
        return 15.0 if name == "first" else 12.0

    def getLeader(self, name, distance):  # noqa: N802
        return self.leader

    def getJunctionFoes(self, name, distance):  # noqa: N802
        return []

    def setSpeedMode(self, name, mode):  # noqa: N802
        pass

    def setSpeed(self, name, speed):  # noqa: N802
        self.told[name] = speed


def test_of_those_who_wait_for_one_another_the_longest_waiting_goes_first_and_alone(graph):
    state, _ = on_street(graph, speed=0.0)
    box, orders = ego_box(state, CarConfig()), Orders()
    reflexes = Reflexes(orders, 0.2)
    rows = np.array([beside(state, 12.0, 8.0), beside(state, 12.0, -8.0, yaw=math.pi)])
    for _ in range(22):
        reflexes.act(box, 0.0, 0.0, ["second", "first"], rows)
    assert list(orders.told) == ["first"] and orders.told["first"] > 0.0


@pytest.mark.parametrize(("leader", "braked"), [(("ego", 4.0), False), (("v14", 34.0), True), (None, True)])
def test_who_follows_is_left_to_sumo_only_while_sumo_sees_the_ego(graph, leader, braked):
    state, _ = on_street(graph, speed=0.0)
    orders = Orders()
    orders.leader = leader
    behind = np.array([beside(state, -9.0, 0.0, speed=8.0)])
    Reflexes(orders, 0.2).act(ego_box(state, CarConfig()), 0.0, 0.0, ["van"], behind)
    assert (orders.told.get("van") == 0.0) == braked


def test_who_brakes_for_the_ego_does_not_speed_up_the_moment_it_seems_clear(graph):
    state, _ = on_street(graph, speed=0.0)
    box, orders = ego_box(state, CarConfig()), Orders()
    reflexes = Reflexes(orders, 0.2)
    across = np.array([beside(state, 0.0, -9.0, yaw=math.pi / 2, speed=8.0)])
    reflexes.act(box, 0.0, 0.0, ["first"], across)
    gone = np.array([beside(state, 0.0, 20.0, yaw=math.pi / 2, speed=8.0)])
    for _ in range(3):
        reflexes.act(box, 0.0, 0.0, ["first"], gone)
        assert orders.told["first"] == 0.0
    for _ in range(2):
        reflexes.act(box, 0.0, 0.0, ["first"], gone)
    assert orders.told["first"] == -1.0
