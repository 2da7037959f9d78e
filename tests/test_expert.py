"""The expert keeps its lane, obeys route, lights and passengers, minds others, and says what it does."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from drivebyword.core.geometry import project
from drivebyword.core.kinematics import CarConfig, CarState, advance
from drivebyword.core.records import CAUSES, DECISIONS, AgentKind, Lights, SignalState, Snapshot
from drivebyword.world import pedals
from drivebyword.world.caution import find_conflict
from drivebyword.world.expert import Expert, ExpertDecision
from drivebyword.world.foresight import Foresight
from drivebyword.world.graph import RoadGraph
from drivebyword.world.roads import Lane, build_town, sample_town
from drivebyword.world.traffic import SpeedPlan
from drivebyword.world.wayfinding import ALONGSIDE

DT, CAR = 0.2, CarConfig()
FRONT = CAR.length - CAR.rear_overhang


@dataclass
class Asked:
    route: list[str]
    speed_factor: float = 0.85
    hold: bool = False
    pull_over: bool = False
    lane_request: int | None = None


@dataclass
class Drive:
    """A car alone with the expert in a town without SUMO: others stand where the test puts them."""

    graph: RoadGraph
    state: CarState
    asked: Asked
    boxes: list[tuple[float, float, float, float, float, float, int]] = field(default_factory=list)
    """x, y, yaw, length, width, speed, kind."""
    colour: int = int(SignalState.GREEN)
    time_s: float = 0.0
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.expert = Expert(self.graph.road_map, self.graph, CAR, DT)

    def snapshot(self) -> Snapshot:
        s = self.state
        rows = [
            (x, y, yaw, length, width, 1.6, speed * np.cos(yaw), speed * np.sin(yaw), 0.0)
            for x, y, yaw, length, width, speed, _ in self.boxes
        ]
        return Snapshot(
            time_s=self.time_s,
            ego=np.array([s.x, s.y, s.yaw, s.speed, s.yaw_rate, s.steer / CAR.steer_max]),
            agents=np.array(rows, np.float32).reshape(-1, 9),
            agent_kind=np.array([box[6] for box in self.boxes], np.int64),
            agent_lights=np.zeros(len(rows), np.int64),
            agent_key=np.arange(len(rows)),
            signals=np.full(len(self.graph.road_map.signals), self.colour, np.int64),
        )

    def decide(self) -> ExpertDecision:
        return self.expert.decide(self.snapshot(), self.state, self.asked, SpeedPlan(speed=99.0, accel=99.0))

    def step(self) -> ExpertDecision:
        decision = self.decide()
        self.said.append(str(decision.reason))
        self.state = advance(self.state, decision.act[0], DT, CAR)
        self.time_s += DT
        self.boxes = [
            (x + v * DT * np.cos(yaw), y + v * DT * np.sin(yaw), yaw, length, width, v, kind)
            for x, y, yaw, length, width, v, kind in self.boxes
        ]
        match = self.graph.lane_at(self.state.x, self.state.y, self.state.yaw)
        if match is not None and not match.internal and match.edge in self.asked.route:
            self.asked.route = self.asked.route[self.asked.route.index(match.edge) :]
        return decision

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / DT)):
            self.step()


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> RoadGraph:
    return RoadGraph(build_town(sample_town(7)))


def on_lane(lane: Lane, s: float, offset: float = 0.0, turned: float = 0.0, speed: float = 0.0) -> CarState:
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(lane.line, axis=0).T))])
    k = min(int(np.searchsorted(arc, s)), len(arc) - 1)
    step = lane.line[k] - lane.line[k - 1]
    heading = float(np.arctan2(step[1], step[0]))
    x, y = lane.line[k - 1] + step / np.hypot(*step) * (s - arc[k - 1])
    return CarState(
        x=float(x - offset * np.sin(heading)), y=float(y + offset * np.cos(heading)), yaw=heading + turned, speed=speed
    )


def route_from(graph: RoadGraph, edge: str, direction: str = "straight") -> list[str]:
    route = [edge]
    for _ in range(4):
        ways = graph.branches(route[-1])
        route.append(ways.get(direction) or ways.get("straight") or next(iter(ways.values())))
        direction = "straight"
    return route


def long_lane(graph: RoadGraph, *, lanes: int = 1, signal: bool | None = None, ways: set[str] | None = None) -> Lane:
    """Return the leftmost lane of a long edge that has what is asked for."""
    told = {head.lane for head in graph.road_map.signals}
    for edge in sorted(graph.edges):
        row = graph.lanes_of(edge)
        fits = len(row) >= lanes and graph.length(row[-1].id) > 75.0
        fits &= signal is None or (row[-1].id in told) == signal
        if fits and (ways or set()) <= set(graph.branches(edge)):
            return row[-1]
    raise AssertionError("the town has no such lane")


def start(graph: RoadGraph, lane: Lane, s: float, direction: str = "straight", **where: float) -> Drive:
    return Drive(graph, on_lane(lane, s, **where), Asked(route_from(graph, lane.edge, direction)))


def test_throttle_and_brake_give_the_acceleration_wanted():
    for wanted in (-3.0, -1.0, -0.2, 0.0, 0.8, 1.5):
        state = CarState(x=0.0, y=0.0, yaw=0.0, speed=9.0)
        throttle, brake = pedals.press(wanted, state, CAR, halt=False)
        assert throttle * brake == 0.0
        for _ in range(10):
            state = advance(state, np.array([0.0, throttle, brake]), DT, CAR)
            throttle, brake = pedals.press(wanted, state, CAR, halt=False)
        assert state.accel == pytest.approx(wanted, abs=0.1)


def test_a_standing_car_is_held_by_the_brake():
    assert pedals.press(0.0, CarState(x=0.0, y=0.0, yaw=0.0), CAR, halt=True) == (0.0, pedals.HOLD_BRAKE)


@pytest.mark.parametrize(("offset", "turned"), [(1.5, 0.0), (-1.4, 0.1), (0.8, -0.35), (-0.8, 0.35), (0.0, 0.3)])
def test_recovers_from_a_disturbed_pose_without_leaving_the_road(graph, offset, turned):
    lane = long_lane(graph)
    drive = start(graph, lane, 12.0, offset=offset, turned=turned, speed=7.0)
    for _ in range(20):
        drive.step()
        assert graph.is_drivable(np.array([[drive.state.x, drive.state.y]])).all()
    assert abs(project(np.array([drive.state.x, drive.state.y]), lane.line)[1]) < 0.35


@pytest.mark.parametrize("direction", ["left", "right", "straight"])
def test_takes_the_branch_of_the_route_within_the_limit_and_on_the_road(graph, direction):
    lanes = [lane for edge in graph.edges for lane in graph.lanes_of(edge)]
    lane = next(
        lane for lane in lanes
        if graph.length(lane.id) > 50 and any(k.direction == direction for k in graph.links_from(lane.id))
    )  # fmt: skip
    drive = start(graph, lane, 20.0, direction, speed=5.0)
    wanted = drive.asked.route[1]
    for _ in range(150):
        drive.step()
        match = graph.lane_at(drive.state.x, drive.state.y, drive.state.yaw)
        assert match is not None and not match.wrong_way
        assert drive.state.speed <= graph.road_map.lanes[match.lane].speed_limit + 0.3
        assert graph.is_drivable(np.array([[drive.state.x, drive.state.y]])).all()
        if match.edge == wanted and match.s > 12.0:
            break
    assert match.edge == wanted and abs(match.offset) < 0.5
    if direction != "straight":
        assert any(said.startswith(f"turn_{direction}") for said in drive.said)


def test_stops_at_a_red_light_before_the_line_and_goes_at_green(graph):
    lane = long_lane(graph, signal=True)
    drive = start(graph, lane, graph.length(lane.id) - 60.0, speed=9.0)
    drive.colour = int(SignalState.RED)
    drive.run(14.0)
    room = graph.length(lane.id) - project(np.array([drive.state.x, drive.state.y]), lane.line)[0] - FRONT
    assert drive.state.speed < 0.1 and 2.0 < room < 3.0
    assert drive.said[-1].startswith("wait | red_light")
    drive.colour = int(SignalState.GREEN)
    drive.run(3.0)
    assert drive.state.speed > 1.5


@pytest.mark.parametrize(("room", "low", "high"), [(56.0, 0.0, 3.0), (8.0, 2.0, 3.2), (3.5, 3.8, 8.0)])
def test_brakes_gently_for_a_red_light_seen_early_and_hard_only_to_stay_behind_the_line(graph, room, low, high):
    lane = long_lane(graph, signal=True)
    drive = start(graph, lane, graph.length(lane.id) - FRONT - room, speed=9.0 if room > 10 else 4.5)
    drive.colour = int(SignalState.RED)
    braking = [float(drive.step().act[0, 2]) * CAR.brake_decel for _ in range(60)]
    assert low < max(braking) < high, braking[:12]


@pytest.mark.parametrize(("room", "goes"), [(3.0, True), (45.0, False)])
def test_amber_means_stop_where_that_is_comfortable_and_go_where_not(graph, room, goes):
    lane = long_lane(graph, signal=True)
    drive = start(graph, lane, graph.length(lane.id) - FRONT - room, speed=9.0)
    drive.colour = int(SignalState.AMBER)
    drive.run(1.0 if goes else 6.0)
    assert (drive.state.speed > 5.0) == goes


def test_stops_behind_a_standing_car_and_says_so(graph):
    lane = long_lane(graph)
    drive = start(graph, lane, 8.0, speed=8.0)
    other = on_lane(lane, 60.0)
    drive.boxes = [(other.x, other.y, other.yaw, 4.5, 1.8, 0.0, int(AgentKind.CAR))]
    drive.run(15.0)
    gap = float(np.hypot(other.x - drive.state.x, other.y - drive.state.y)) - 2.25 - FRONT
    assert drive.state.speed < 0.1 and 1.0 < gap < 5.0
    assert drive.said[-1].startswith("wait | lead_vehicle")


def test_brakes_for_a_person_who_walks_into_its_way(graph):
    lane = long_lane(graph)
    drive = start(graph, lane, 8.0, speed=8.0)
    at = on_lane(lane, 34.0, offset=-4.0)
    drive.boxes = [(at.x, at.y, at.yaw + np.pi / 2, 0.45, 0.55, 1.3, int(AgentKind.PEDESTRIAN))]
    nearest = 9.0
    for _ in range(25):
        drive.step()
        x, y = drive.boxes[0][:2]
        cos, sin = np.cos(drive.state.yaw), np.sin(drive.state.yaw)
        ahead = (x - drive.state.x) * cos + (y - drive.state.y) * sin
        aside = (y - drive.state.y) * cos - (x - drive.state.x) * sin
        if -CAR.rear_overhang < ahead < FRONT + 0.3:
            nearest = min(nearest, abs(aside))
    assert nearest > CAR.width / 2 + 0.3
    assert any("pedestrian" in said for said in drive.said)


def test_does_not_see_farther_than_any_sensor(graph):
    lane = max((lane for e in graph.edges for lane in graph.lanes_of(e)), key=lambda lane: graph.length(lane.id))
    drive = start(graph, lane, 5.0, speed=8.0)
    alone = drive.decide().act
    other = on_lane(lane, min(95.0, graph.length(lane.id) - 1.0))
    if np.hypot(other.x - drive.state.x, other.y - drive.state.y) < 82.0:
        other = CarState(
            x=drive.state.x + 85 * np.cos(drive.state.yaw), y=drive.state.y + 85 * np.sin(drive.state.yaw), yaw=0
        )
    drive.boxes = [(float(other.x), float(other.y), float(other.yaw), 4.5, 1.8, 0.0, int(AgentKind.CAR))]
    drive.expert.reset()
    assert np.allclose(drive.decide().act, alone)


def test_stop_means_standing_soon_in_the_lane_outside_junctions(graph):
    drive = start(graph, long_lane(graph), 12.0, speed=8.0)
    drive.asked.hold = True
    drive.run(8.0)
    match = graph.lane_at(drive.state.x, drive.state.y, drive.state.yaw)
    assert drive.state.speed < 0.1 and match is not None and not match.internal
    assert drive.said[-1] == "wait | instruction | here"


def test_pulling_over_ends_at_the_right_kerb(graph):
    lane = long_lane(graph, lanes=2)
    drive = start(graph, lane, 8.0, speed=6.0)
    drive.asked.pull_over = True
    drive.run(20.0)
    right = graph.lanes_of(lane.edge)[0]
    match = graph.lane_at(drive.state.x, drive.state.y, drive.state.yaw)
    assert drive.state.speed < 0.1 and match is not None and match.edge in drive.asked.route
    right = graph.lanes_of(match.edge)[0]
    assert match.lane == right.id
    assert 0.1 < match.offset + right.width / 2 - CAR.width / 2 <= 0.6


@pytest.mark.parametrize("wish", ["hold", "pull_over"])
def test_what_to_do_when_told_to_stop_follows_from_the_moment_alone(graph, wish):
    # However slow a car has become on the way to a stop, nobody asks it to drive on to a place farther off.
    lane = graph.lanes_of(long_lane(graph).edge)[0]
    drive = start(graph, lane, 12.0, speed=9.0)
    setattr(drive.asked, wish, True)
    for _ in range(4):
        drive.step()
    pushed = drive.state.speed
    for slower in (0.7 * pushed, 0.5 * pushed, 0.3 * pushed):
        drive.state = replace(drive.state, speed=slower, accel=-1.5)
        act = drive.decide().act[0]
        fresh = Drive(graph, drive.state, Asked(list(drive.asked.route), **{wish: True}))
        aside = drive.expert.wayfinder._to_kerb(lane, drive.state)
        if wish == "hold" or aside < ALONGSIDE:
            assert act[1] == 0.0 and act[2] > 0.1, (slower, act)
        assert fresh.decide().act[0] == pytest.approx(act, abs=0.12)


def test_told_to_pull_over_a_car_that_stopped_too_far_out_moves_to_the_kerb(graph):
    lane = graph.lanes_of(long_lane(graph).edge)[0]
    drive = start(graph, lane, 15.0)
    drive.asked.pull_over = True
    speeds = [(drive.step(), drive.state.speed)[1] for _ in range(60)]
    assert max(speeds) > 1.0 and speeds[-1] < 0.3
    assert drive.expert.wayfinder._to_kerb(lane, drive.state) < 0.2


def test_changes_lanes_when_asked_and_the_lane_is_free(graph):
    lane = long_lane(graph, lanes=2)
    drive = start(graph, lane, 8.0, speed=7.0)
    target = graph.lanes_of(lane.edge)[-2]
    drive.asked.lane_request = target.index
    drive.run(6.0)
    assert abs(project(np.array([drive.state.x, drive.state.y]), target.line)[1]) < 0.6
    assert any(said.startswith("change_right") for said in drive.said)


def test_waits_with_a_lane_change_while_somebody_is_beside(graph):
    lane = long_lane(graph, lanes=2)
    drive = start(graph, lane, 10.0, speed=7.0)
    target = graph.lanes_of(lane.edge)[-2]
    drive.asked.lane_request = target.index
    beside = on_lane(target, 11.0)
    drive.boxes = [(beside.x, beside.y, beside.yaw, 4.5, 1.8, 7.0, int(AgentKind.CAR))]
    drive.step()
    assert not any(said.startswith("change") for said in drive.said)


def test_chunks_and_plans_are_in_range_and_start_with_the_act_that_is_driven(graph):
    drive = start(graph, long_lane(graph), 12.0, speed=6.0)
    for _ in range(40):
        decision = drive.step()
        assert decision.act.shape == (4, 3) and decision.plan.shape == (8, 2)
        assert (np.abs(decision.act[:, 0]) <= 1).all() and (decision.act[:, 1:] >= 0).all()
        assert (decision.act[:, 1:] <= 1).all() and (decision.act[:, 1] * decision.act[:, 2] == 0).all()
        assert np.hypot(*decision.plan[0]) == pytest.approx(3.0, abs=0.6) and decision.plan[0, 0] > 2.0


def test_a_clear_road_is_said_to_be_clear(graph):
    drive = start(graph, long_lane(graph), 12.0, speed=6.0)
    assert str(drive.step().reason) == "go | clear | ahead"


def test_a_chunk_foretells_the_next_decisions(graph):
    drive = start(graph, long_lane(graph), 12.0, speed=6.0)
    first = drive.step().act
    second = drive.decide().act
    assert np.allclose(first[1:], second[:3], atol=0.05)


def test_reasons_name_words_of_the_records(graph):
    drive = start(graph, long_lane(graph), 12.0, speed=6.0)
    reason = drive.step().reason
    assert DECISIONS[reason.decision] and CAUSES[reason.cause]


def test_drives_a_scene_of_sumo_to_its_end_without_harm():
    from drivebyword.core.records import Event
    from drivebyword.world.env import DrivingEnv

    env = DrivingEnv(render_sensors=False)
    _, info = env.reset(seed=2_000_001, options={"scenario": "town"})
    happened = Event.NONE
    while info["ended"] is None:
        *_, info = env.step(env.expert().act[0])
        happened |= Event(info["events"])
    assert info["ended"] == "arrived"
    assert not happened & ~(Event.ARRIVED | Event.AT_FAULT)


def crossover(graph: RoadGraph) -> tuple[Lane, list[str], Lane, Lane]:
    """Return a lane, a route, the lane it leads to, and the one beside that on which the route goes on."""
    lanes = graph.road_map.lanes
    for name in sorted(lanes):
        for link in graph.links_from(name):
            here, there = lanes[name], lanes[link.to_lane]
            ways = {lanes[k.to_lane].edge for k in graph.links_from(there.id)}
            for other in graph.lanes_of(there.edge):
                beyond = sorted({lanes[k.to_lane].edge for k in graph.links_from(other.id)} - ways)
                led = other.id in {k.to_lane for k in graph.links_from(name)}
                near = abs(other.index - there.index) == 1 and min(graph.length(there.id), graph.length(name)) > 50.0
                if beyond and near and not led and link.direction == "straight":
                    return here, [here.edge, there.edge, beyond[0]], there, other
    raise AssertionError("the town has no such street")


def test_a_lane_planned_beyond_a_junction_is_entered_only_once_there_is_room(graph):
    lane, route, there, other = crossover(graph)
    drive = Drive(graph, on_lane(lane, graph.length(lane.id) - 12.0, speed=6.0), Asked(route))
    heading = other.line[-1] - other.line[0]
    yaw = float(np.arctan2(heading[1], heading[0]))
    for s in np.arange(14.0, graph.length(other.id), 7.0):
        parked = on_lane(other, float(s))
        drive.boxes.append((parked.x, parked.y, yaw, 4.5, 1.8, 0.0, int(AgentKind.CAR)))
    farthest = 0.0
    for _ in range(60):
        drive.step()
        match = graph.lane_at(drive.state.x, drive.state.y, drive.state.yaw)
        if match is not None and match.edge == there.edge:
            farthest = max(farthest, abs(project(np.array([drive.state.x, drive.state.y]), there.line)[1]))
    assert match is not None and match.edge == there.edge and farthest < 0.6


def seen(graph: RoadGraph, state: CarState, other: CarState, lights: int = 0) -> Snapshot:
    drive = Drive(graph, state, Asked([]))
    drive.boxes = [(other.x, other.y, other.yaw, 4.5, 1.8, other.speed, int(AgentKind.CAR))]
    snapshot = drive.snapshot()
    snapshot.agent_lights[0] = lights
    return snapshot


def test_an_oncoming_car_that_indicates_right_is_expected_to_turn(graph):
    lanes = sorted(graph.road_map.lanes)
    lane = next(
        graph.road_map.lanes[n]
        for n in lanes
        if graph.length(n) > 30.0 and any(k.direction == "right" for k in graph.links_from(n))
    )
    other = on_lane(lane, graph.length(lane.id) - 8.0, speed=6.0)
    ego = CarState(x=other.x, y=other.y, yaw=other.yaw + np.pi)
    turned = []
    for lights in (int(Lights.RIGHT), 0):
        snapshot = seen(graph, ego, other, lights)
        future = Foresight(graph).predict(snapshot, np.array([0]), np.zeros(1), np.arange(0.0, 4.0, 0.25))
        turned.append(float(future.yaw[-1, 0] - future.yaw[0, 0]))
    assert turned[0] < -0.5 and abs(turned[1]) < 0.1


def test_room_before_a_crossing_car_ends_where_its_way_begins(graph):
    lane = long_lane(graph)
    drive = start(graph, lane, 20.0, speed=6.0)
    drive.decide()
    way, at = drive.expert.wayfinder.way, on_lane(lane, 20.0 + FRONT + 10.0, offset=9.0)
    crossing = CarState(x=at.x, y=at.y, yaw=at.yaw - np.pi / 2, speed=5.0)
    found = find_conflict(way.track, way.s, 6.0, seen(graph, drive.state, crossing), CAR, Foresight(graph))
    assert found is not None and 10.0 - 0.9 - 1.2 < found.distance < 10.0 - 0.9 + 0.3
