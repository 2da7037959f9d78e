"""Outside maps: OpenStreetMap and OpenDRIVE files become roads one can drive on, and anything else one clear line."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from drivebyword.cli import main
from drivebyword.core.records import Event
from drivebyword.evaluate.suites import suite, suite_hash
from drivebyword.loop.importing import import_map
from drivebyword.world.building import build_map
from drivebyword.world.env import DrivingEnv
from drivebyword.world.graph import RoadGraph
from drivebyword.world.outside import ABOUT, NET, OutsideMap, about, imported
from drivebyword.world.roads import RoadMap
from drivebyword.world.scenario import find_scenario

DATA = Path(__file__).parent / "data"
OSM, XODR = DATA / "lunemouth.osm", DATA / "three_roads.xodr"
HARM = Event.COLLISION_PERSON | Event.COLLISION_VEHICLE | Event.COLLISION_STATIC | Event.OFFROAD | Event.RED_LIGHT


@pytest.fixture(scope="module")
def town() -> RoadMap:
    return build_map(OutsideMap(path=OSM))


def kinds(road_map: RoadMap) -> set[str]:
    return {lane.kind for lane in road_map.lanes.values()}


def test_an_extract_has_what_real_places_have(town):
    assert kinds(town) == {"drive", "internal", "reserved", "sidewalk", "crossing", "walkarea"}
    assert len(town.roundabouts) == 1 and len(town.roundabouts[0]) == 4
    assert {junction.kind for junction in town.junctions} >= {"traffic_light", "priority", "right_before_left"}
    limits = {round(lane.speed_limit * 3.6) for lane in town.lanes.values() if lane.kind == "drive"}
    assert limits == {20, 30, 40, 50, 60}
    assert len({head.tls for head in town.signals}) == 3


def test_an_opendrive_file_keeps_its_lanes_bends_and_limits():
    road_map = build_map(OutsideMap(path=XODR))
    graph = RoadGraph(road_map)
    assert sorted(len(graph.lanes_of(edge)) for edge in graph.edges) == [2] * 6
    limits = {edge: round(graph.lanes_of(edge)[0].speed_limit * 3.6) for edge in graph.edges}
    assert limits == {"-1": 60, "1": 60, "-2": 40, "2": 40, "-3": 50, "3": 50}
    # The middle road winds: its heading swings by some 60 degrees to either side and comes back.
    line = road_map.lanes["-2_1"].line
    heading = np.unwrap(np.arctan2(*np.diff(line, axis=0).T[::-1]))
    assert abs(heading[-1] - heading[0]) < 0.1 and np.ptp(heading) > 0.4


def test_nobody_is_sent_into_a_dead_end_a_bus_lane_or_round_on_the_spot(town):
    graph = RoadGraph(town)
    assert all(graph.branches(town.lanes[link.to_lane].edge) for link in town.links)
    assert all(town.lanes[end].kind == "drive" for link in town.links for end in (link.from_lane, link.to_lane))
    assert not any(link.direction == "turn" for link in town.links)
    buses = [lane for lane in town.lanes.values() if lane.kind == "reserved" and not lane.edge.startswith(":")]
    assert (
        buses and not graph.is_drivable(np.concatenate([lane.line[1:-1] for lane in buses if len(lane.line) > 2])).any()
    )
    for lane in buses:
        assert graph.links_from(lane.id) == []


def test_a_route_leaves_a_roundabout_at_the_second_exit(town):
    graph, (ring,) = RoadGraph(town), town.roundabouts
    entries = {town.lanes[k.from_lane].edge for k in town.links if town.lanes[k.to_lane].edge in ring} - ring
    for entry in entries:
        route = [entry, *graph.branches(entry).values()]
        passed = 0
        while route[-1] in ring:
            route.append(graph.way_out(route) or next(e for e in graph.branches(route[-1]).values() if e in ring))
            passed += 1
        assert 2 <= passed <= 3 and route[-1] not in ring


def test_the_same_file_gives_the_same_map_wherever_it_lies(tmp_path, town):
    copy = tmp_path / "elsewhere.osm"
    copy.write_bytes(OSM.read_bytes())
    again = build_map(OutsideMap(path=copy), tmp_path / "cache")
    assert again.id == town.id and again.signs == town.signs
    assert all(np.array_equal(again.lanes[k].line, town.lanes[k].line) for k in town.lanes)


@pytest.mark.parametrize("path", [OSM, XODR], ids=["osm", "xodr"])
def test_the_expert_drives_there_and_the_same_seed_gives_the_same_bytes(path):
    env = DrivingEnv()
    seen = []
    for _ in range(2):
        observation, info = env.reset(seed=1_000_002, options={"scenario": f"town@{path}"})
        assert observation["camera_wide"].shape == (64, 192, 3) and observation["lidar"].shape == (16, 128, 2)
        frames, happened = [], 0
        for _ in range(60):
            observation, *_, info = env.step(env.expert().act[0])
            happened |= info["events"]
            frames.append(observation["camera_tele"].tobytes() + observation["lidar"].tobytes())
            match = env.graph.lane_at(*env.pose())
            assert match is not None and env.road_map.lanes[match.lane].kind in ("drive", "internal")
        assert not happened & int(HARM)
        seen.append(b"".join(frames))
    assert seen[0] == seen[1]
    assert info["ended"] is None
    env.close()


def test_every_nominal_scenario_and_suite_takes_a_map_and_families_do_not():
    for name in ("town", "town-night", "town-fog", "town-mixed"):
        scene = find_scenario(f"{name}@{OSM}").sample(1_000_000)
        assert scene.town == OutsideMap(path=OSM)
        assert scene.credit == "(c) OpenStreetMap contributors, licence ODbL 1.0"
        chosen = suite(f"{name}@{OSM}")
        assert chosen.scenarios == (f"{name}@{OSM}",)
        assert suite_hash(chosen) != suite_hash(suite(name))
    with pytest.raises(ValueError, match="chooses its own roads"):
        find_scenario(f"dense_fog@{OSM}")
    assert find_scenario("town").sample(1_000_000).credit == ""


def test_import_writes_a_folder_to_drive_on_and_says_the_licence(tmp_path, capsys):
    out = tmp_path / "lunemouth"
    assert main(["world", "import", str(OSM), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "(c) OpenStreetMap contributors" in told and "ODbL 1.0" in told and "km of lanes" in told
    record = json.loads((out / ABOUT).read_text())
    assert record["attribution"] == "(c) OpenStreetMap contributors" and record["projection"].startswith("+proj=utm")
    assert record["counts"]["signalised"] == 3 and record["counts"]["roundabouts"] == 1
    assert len(record["net_offset_m"]) == 2 and (out / "map.png").stat().st_size > 100_000
    assert build_map(OutsideMap(path=out)).id == build_map(OutsideMap(path=OSM)).id
    assert main(["world", "import", str(XODR), "--out", str(out)]) == 0  # in place of the other
    assert "licence" in capsys.readouterr().out and about(out)["licence"] == "unknown"
    (out / NET).write_text("<net/>")
    with pytest.raises(ValueError, match="import the map again"):
        imported(OutsideMap(path=out))


def test_import_leaves_a_folder_alone_that_is_no_map(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="no imported map"):
        import_map(OutsideMap(path=OSM), tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_a_part_of_a_map_can_be_taken(tmp_path, town):
    west, south, east, north = about(imported(OutsideMap(path=OSM)))["original_bounds"]
    part = build_map(OutsideMap(path=OSM, within=(west, south, (west + 2 * east) / 3, north)), tmp_path)
    assert 0 < len(part.lanes) < len(town.lanes)


def test_left_hand_traffic_is_handed_to_netconvert(tmp_path):
    folder = imported(OutsideMap(path=OSM, left_hand=True), tmp_path)
    assert 'lefthand="true"' in (folder / NET).read_text()[:2000] and about(folder)["left_hand"] is True


def stretched(text: str, times: float) -> str:
    def far(found: re.Match[str]) -> str:
        return f'lat="{54.2 + (float(found[1]) - 54.2) * times:.7f}" lon="{3.1 + (float(found[2]) - 3.1) * times:.7f}"'

    return re.sub(r'lat="([\d.]+)" lon="([\d.]+)"', far, text)


NODES = '<node id="1" lat="54.2" lon="3.1"/><node id="2" lat="54.202" lon="3.1"/>'
BAD = {
    "empty.osm": (lambda text: "", "is empty"),
    "note.osm": (lambda text: "hello", "is not a map"),
    "page.osm": (lambda text: "<html/>", "begins with <html>"),
    "cut.osm": (lambda text: text[:20_000], "broken XML"),
    "binary.osm.pbf": (lambda text: "\0\1\2", "not XML"),
    "entity.osm": (lambda text: '<!DOCTYPE a [<!ENTITY x "y">]><osm>&x;</osm>', "entities"),
    "bare.osm": (lambda text: f"<osm>{NODES}</osm>", "no road that cars may use"),
    "paths.osm": (
        lambda text: re.sub(r'k="highway" v="(primary|secondary|tertiary|residential|service|unclassified)"',
                            'k="highway" v="footway"', text), "no road that cars may use"),
    "lonely.osm": (
        lambda text: f'<osm>{NODES}<way id="5"><nd ref="1"/><nd ref="2"/><tag k="highway" v="tertiary"/></way></osm>',
        "no junction"),
    "large.osm": (lambda text: stretched(text, 4.0), "too big: 2.7 by 2.5 km"),
    "none.xodr": (lambda text: "<OpenDRIVE><header/></OpenDRIVE>", "netconvert failed .*revMajor"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_map_is_refused_in_one_line(name, tmp_path, capsys):
    make, said = BAD[name]
    (tmp_path / name).write_text(make(OSM.read_text()))
    assert main(["world", "import", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and re.search(said, lines[0]), lines
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("path", ["nowhere.osm", "."])
def test_a_map_that_is_not_there_is_said_to_be_missing(path, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["drive", "turn left", "--map", path, "--policy", "expert", "--out", str(tmp_path / "out")]) == 2
    assert re.search("not found|not an imported map", capsys.readouterr().err)


def test_a_typed_sentence_that_the_map_has_no_place_for_is_said_so(tmp_path):
    """Two streets that meet end to end: there is no junction to turn at."""
    nodes = (
        '<node id="1" lat="54.2" lon="3.1"/><node id="2" lat="54.201" lon="3.1"/><node id="3" lat="54.202" lon="3.1"/>'
    )
    ways = "".join(
        f'<way id="{k}"><nd ref="{k}"/><nd ref="{k + 1}"/><tag k="highway" v="{kind}"/></way>'
        for k, kind in ((1, "residential"), (2, "tertiary"))
    )
    (tmp_path / "one.osm").write_text(f"<osm>{nodes}{ways}</osm>")
    env = DrivingEnv(render_sensors=False)
    options = {"scenario": f"town@{tmp_path / 'one.osm'}", "instruction": ("turn left", "left")}
    with pytest.raises(ValueError, match="no place"):
        env.reset(seed=1_000_000, options=options)
    env.close()


def test_within_must_be_a_box():
    with pytest.raises(ValueError, match="west < east"):
        OutsideMap(path=OSM, within=(3.2, 54.0, 3.1, 54.3))
    assert replace(OutsideMap(path=OSM), left_hand=True) != OutsideMap(path=OSM)
