"""Towns: every style builds, links drive, signals stand where drivers look, and lookups are right and fast."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest

from drivebyword.core.geometry import resample
from drivebyword.world.graph import RoadGraph
from drivebyword.world.roads import RoadMap, TownConfig, build_town, load_road_map, sample_town, town_for_scene
from drivebyword.world.town import POOL_SIZES, SPLIT_STARTS, generate_net

STYLES = {"grid": 2, "spider": 5, "random": 4}


@pytest.fixture(scope="module", params=sorted(STYLES))
def town(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RoadMap:
    config = sample_town(STYLES[request.param])
    assert config.style == request.param
    return build_town(config, tmp_path_factory.mktemp("towns"))


def radius(path: np.ndarray) -> float:
    line = resample(path, 0.5)
    heading = np.unwrap(np.arctan2(*np.diff(line, axis=0).T[::-1]))
    return float(2.0 / max(np.abs(heading[4:] - heading[:-4]).max(initial=0.0), 1e-3))


def test_same_config_gives_the_same_map(tmp_path):
    a, b = (build_town(TownConfig(seed=3), tmp_path / name) for name in "ab")
    assert sorted(a.lanes) == sorted(b.lanes)
    assert all(np.array_equal(a.lanes[k].line, b.lanes[k].line) for k in a.lanes)


def test_second_load_comes_from_the_cache_and_is_fast(tmp_path):
    config = TownConfig(seed=4)
    first = build_town(config, tmp_path)
    start = time.perf_counter()
    again = build_town(config, tmp_path)
    assert time.perf_counter() - start < 0.2
    assert again.id == first.id and len(again.links) == len(first.links)
    assert [(s.lane, s.tls_index) for s in again.signals] == [(s.lane, s.tls_index) for s in first.signals]


def test_a_damaged_parsed_cache_is_rebuilt(tmp_path):
    config = TownConfig(seed=4)
    first = build_town(config, tmp_path)
    for parsed in tmp_path.glob("*.npz"):
        parsed.write_bytes(b"not an archive")
    assert sorted(build_town(config, tmp_path).lanes) == sorted(first.lanes)


def test_no_scratch_is_left_beside_the_towns(tmp_path):
    generate_net(TownConfig(seed=5), tmp_path)
    assert not list(tmp_path.glob(".building-*"))


def test_nobody_drives_into_a_dead_end_or_turns_round(town):
    assert not any(link.direction == "turn" for link in town.links)
    leaving = {link.from_lane for link in town.links}
    drive = [lane.id for lane in town.lanes.values() if lane.kind == "drive"]
    assert sum(name not in leaving for name in drive) <= 0.01 * len(drive)


def test_links_start_and_end_on_their_lanes(town):
    for link in town.links:
        assert np.hypot(*(link.path[0] - town.lanes[link.from_lane].line[-1])) < 0.3
        assert np.hypot(*(link.path[-1] - town.lanes[link.to_lane].line[0])) < 0.3
        assert link.via


def test_nearly_every_link_suits_the_turning_circle(town):
    tight = [radius(link.path) for link in town.links]
    assert min(tight) > 2.5
    assert np.mean(np.array(tight) < 3.9) < 0.05


def test_rightmost_lane_never_turns_left_where_there_is_a_lane_to_its_left(town):
    graph = RoadGraph(town)
    for edge in graph.edges:
        lanes = graph.lanes_of(edge)
        ways = set(graph.branches(edge))
        if len(lanes) > 1 and ways >= {"left", "straight"}:
            assert all(link.direction != "left" for link in graph.links_from(lanes[0].id))
            assert all(link.direction != "right" for link in graph.links_from(lanes[-1].id))


def test_signals_face_their_lane_from_beyond_the_junction():
    town = build_town(sample_town(2))
    far = [head for head in town.signals if head.z > 4.0]
    assert {head.lane for head in far} == {link.from_lane for link in town.links if link.tls}
    for head in far:
        line = town.lanes[head.lane].line
        heading = np.arctan2(*(line[-1] - line[-2])[::-1])
        ahead = np.array([head.x, head.y]) - line[-1]
        assert 7.0 < ahead @ [np.cos(heading), np.sin(heading)] < 60.0
        assert np.cos(head.yaw - heading) < -0.99


def test_every_signalised_lane_has_a_stop_line_across_its_end(town):
    for name in {head.lane for head in town.signals}:
        a, b = town.stop_lines[name]
        lane = town.lanes[name]
        assert np.hypot(*((a + b) / 2 - lane.line[-1])) < 1e-6
        assert np.hypot(*(a - b)) == pytest.approx(lane.width)


def test_limits_are_those_of_the_config(town):
    kph = {round(lane.speed_limit * 3.6) for lane in town.lanes.values() if lane.kind == "drive"}
    assert kph <= {30, 40, 50, 60}


def test_lane_lookup_finds_the_lane_under_a_pose_and_tells_wrong_way(town):
    graph, rng = RoadGraph(town), np.random.default_rng(0)
    wrong, right, count = 0, 0, 0
    for lane in town.lanes.values():
        if lane.kind != "drive":
            continue
        line = resample(lane.line, 1.0)
        k = int(rng.integers(1, len(line) - 2))
        heading = float(np.arctan2(*(line[k + 1] - line[k])[::-1]))
        beside = line[k] + 0.4 * np.array([-np.sin(heading), np.cos(heading)])
        match = graph.lane_at(float(beside[0]), float(beside[1]), heading + 0.2)
        back = graph.lane_at(float(beside[0]), float(beside[1]), heading + np.pi)
        count += 1
        right += match is not None and match.lane == lane.id and abs(match.offset - 0.4) < 0.1
        wrong += back is not None and back.wrong_way
    assert right >= 0.98 * count and wrong >= 0.98 * count


def test_lane_lookup_is_cheap(town):
    graph = RoadGraph(town)
    x, y = next(lane for lane in town.lanes.values() if lane.kind == "drive").line[0]
    graph.lane_at(float(x), float(y), 0.0)
    start = time.perf_counter()
    for _ in range(500):
        graph.lane_at(float(x), float(y), 0.0)
    # 4 us without the suite's type checks, on an idle core.
    assert (time.perf_counter() - start) / 500 < 1e-3


def test_nothing_is_found_far_from_any_road(town):
    assert RoadGraph(town).lane_at(-500.0, -500.0, 0.0) is None


def test_lanes_and_links_are_drivable_and_sidewalks_are_not(town):
    graph = RoadGraph(town)
    for link in town.links:
        assert graph.is_drivable(resample(link.path, 1.0)).all()
    walks = [resample(lane.line, 2.0) for lane in town.lanes.values() if lane.kind == "sidewalk"]
    assert graph.is_drivable(np.concatenate(walks)).mean() < 0.02
    assert not graph.is_drivable(np.array([[-900.0, 0.0], [1e6, 1e6]])).any()


def test_branches_lead_to_edges_that_links_reach(town):
    graph = RoadGraph(town)
    for edge in graph.edges:
        for direction, following in graph.branches(edge).items():
            assert direction in {link.direction for link in graph.links_between(edge, following)}
        assert graph.next_junction(edge) is not None


def test_pools_of_the_splits_share_no_town():
    seeds = {split: {town_for_scene(start + k).seed for k in range(600)} for split, start in SPLIT_STARTS.items()}
    for split, towns in seeds.items():
        assert len(towns) == pytest.approx(POOL_SIZES[split], rel=0.1)
        assert all(SPLIT_STARTS[split] <= seed < SPLIT_STARTS[split] + POOL_SIZES[split] for seed in towns)


def test_sampled_towns_span_the_range():
    towns = [sample_town(seed) for seed in range(160)]
    styles = Counter(town.style for town in towns)
    assert min(styles.values()) >= 15 and set(styles) == {"grid", "spider", "random"}
    assert {town.main_lanes for town in towns} == {1, 2, 3}
    assert {town.main_limit_kph for town in towns} | {town.side_limit_kph for town in towns} == {30, 40, 50, 60}
    assert len(set(towns)) == 160


@pytest.mark.parametrize(
    ("bad", "said"),
    [({"style": "cul-de-sac"}, "grid, spider, random"), ({"main_lanes": 5}, "1 to 3"), ({"block": 20.0}, "70 to 150")],
)
def test_impossible_towns_are_refused_in_one_line(bad, said):
    with pytest.raises(ValueError, match=said) as error:
        TownConfig(**bad)
    assert "\n" not in str(error.value)


def test_a_missing_network_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="not found"):
        load_road_map(tmp_path / "nowhere.net.xml")
