"""Signs: where they stand, which way they face, and that every sensor sees them; towns without keep their bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from empty_street import DAY, NIGHT, empty_scenery, scene, street

from drivebyword.core.geometry import project
from drivebyword.core.records import AgentKind
from drivebyword.world.building import build_map
from drivebyword.world.graph import RoadGraph
from drivebyword.world.ground import Ground
from drivebyword.world.outside import OutsideMap
from drivebyword.world.rigs import tiny
from drivebyword.world.roads import Link, RoadMap, Sign, SignKind, TownConfig, build_town
from drivebyword.world.scenario import find_scenario
from drivebyword.world.scenery import build_scenery
from drivebyword.world.sensors import Sensors
from drivebyword.world.signs import plan_signs
from drivebyword.world.stage import Stage

DATA = Path(__file__).parent / "data"
EVERY = [(SignKind.LIMIT, 30), (SignKind.LIMIT, 50), (SignKind.LIMIT, 120)]
EVERY += [(kind, 0) for kind in SignKind if kind != SignKind.LIMIT]


def signposted(*signs: Sign) -> RoadMap:
    return replace(street(), id="00c0ffee00c0ffed", signals=(), signs=signs)


def look(road_map: RoadMap, folder: Path, weather=DAY):
    scenery = build_scenery(road_map)
    ground = Ground.build(road_map, scenery, folder)
    return Sensors(tiny(), road_map, ground, scenery).observe(replace(scene(), signals=np.zeros(0, int)), weather, 1)


def at(distance: float, kind: SignKind, value: int = 0, yaw: float = np.pi) -> Sign:
    return Sign(x=1.8 + distance, y=-4.0, yaw=yaw, kind=kind, value=value, lane="out_1")


def face(road_map: RoadMap, folder: Path, distance: float, weather=DAY) -> np.ndarray:
    """Cut the plate out of the tele picture."""
    picture = look(road_map, folder, weather).cameras["tele"].astype(int)
    scale, horizon = 64 / np.tan(np.radians(17.5)), 32 + np.tan(0.03) * 64 / np.tan(np.radians(17.5))
    col, row = 64 + scale * 2.4 / distance, horizon - scale * 0.8 / distance
    half = max(int(scale * 0.5 / distance), 2)
    return picture[int(row) - half : int(row) + half + 1, int(col) - half : int(col) + half + 1]


@pytest.mark.parametrize(
    ("weather", "distance"), [(DAY, 15.0), (NIGHT, 15.0), (DAY, 40.0)], ids=["day", "night", "far"]
)
def test_every_face_looks_different(weather, distance, tmp_path):
    faces = {(k, v): face(signposted(at(distance, k, v)), tmp_path, distance, weather) for k, v in EVERY}
    names = list(faces)
    noise = np.abs(faces[names[0]] - face(signposted(at(distance, *names[0])), tmp_path, distance, weather)).mean()
    assert noise == 0.0  # the same frame key: what differs below is the sign
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            if distance > 30 and one[0] == other[0] == SignKind.LIMIT:
                continue  # four pixels: a limit, but not which
            assert np.abs(faces[one] - faces[other]).mean() > 3.0, (one, other)


def test_a_sign_from_behind_is_grey(tmp_path):
    front = face(signposted(at(15.0, SignKind.STOP)), tmp_path, 15.0)
    back = face(signposted(at(15.0, SignKind.STOP, yaw=0.0)), tmp_path, 15.0)

    def red(picture: np.ndarray) -> int:
        return int(((picture[..., 0] > 120) & (picture[..., 0] > picture[..., 1:].max(-1) + 60)).sum())

    assert red(front) > 20 and red(back) == 0


def test_a_sign_shines_at_night_in_the_headlights(tmp_path):
    lit = face(signposted(at(15.0, SignKind.YIELD)), tmp_path, 15.0, NIGHT)
    dark = face(signposted(at(15.0, SignKind.YIELD, yaw=0.0)), tmp_path, 15.0, NIGHT)
    assert lit.max() > 200 and lit.max() > 1.5 * dark.max()


def test_lidar_sees_a_bright_plate_and_radar_a_faint_post(tmp_path):
    distance = 12.0
    signs, none = signposted(at(distance, SignKind.STOP)), signposted()
    scenery, bare = build_scenery(signs), build_scenery(none)
    assert len(scenery.floats) >= len(bare.floats) + 1
    only = replace(empty_scenery(), floats=scenery.floats[:2], codes=scenery.codes[:2])
    ground = Ground.build(signs, empty_scenery(), tmp_path)
    sensors = Sensors(tiny(), signs, ground, only)
    seen = replace(scene(), signals=np.zeros(0, int))
    frames = [sensors.observe(seen, DAY, k) for k in range(12)]
    # Beams from 1.6 degrees up meet nothing but the plate, a little to the right of straight ahead.
    shine = [f.lidar[13:, 66:70, 1][f.lidar[13:, 66:70, 0] > 0] for f in frames]
    far = [f.lidar[13:, 66:70, 0][f.lidar[13:, 66:70, 0] > 0] for f in frames]
    assert np.median(np.concatenate(shine)) > 0.8 and len(np.concatenate(shine)) > 24
    assert np.concatenate(far) == pytest.approx(np.hypot(0.6 + distance, 2.4), abs=0.5)
    echoes = [row for f in frames for row in f.radar[f.radar_valid] if abs(row[0] - (distance - 1.8)) < 0.9]
    assert len(echoes) >= 2 and all(row[3] < 6.0 for row in echoes)


def maps() -> list[RoadMap]:
    town = TownConfig(style="grid", size=3, size_y=3, signal_share=0.2, side_limit_kph=30.0, signs=True, seed=3)
    outside = [build_map(OutsideMap(path=DATA / name)) for name in ("lunemouth.osm", "three_roads.xodr")]
    return [build_map(town), *outside]


@pytest.mark.parametrize("number", range(3), ids=["town", "osm", "xodr"])
def test_every_sign_stands_right_of_its_lane_clear_of_the_road_and_faces_its_traffic(number):
    road_map = maps()[number]
    graph = RoadGraph(road_map)
    assert len(road_map.signs) >= 5
    for sign in road_map.signs:
        lane = road_map.lanes[sign.lane]
        place = np.array([sign.x, sign.y])
        _, offset, heading = project(place, lane.line)
        against = sign.kind == SignKind.NO_ENTRY
        assert offset == pytest.approx((1 if against else -1) * (lane.width / 2 + 0.75), abs=0.2)
        assert np.cos(sign.yaw - heading) * (1 if against else -1) > 0.97
        assert not graph.is_drivable(place[None]).any()
        if sign.kind == SignKind.LIMIT:
            kph = {round(other.speed_limit * 3.6) for other in graph.lanes_of(lane.edge)}
            assert kph == {sign.value}


def test_signs_say_the_rules_of_their_junction():
    road_map = build_map(OutsideMap(path=DATA / "lunemouth.osm"))
    graph = RoadGraph(road_map)
    yields = {road_map.lanes[s.lane].edge for s in road_map.signs if s.kind == SignKind.YIELD}
    (ring,) = road_map.roundabouts
    into = {road_map.lanes[k.from_lane].edge for k in road_map.links if road_map.lanes[k.to_lane].edge in ring} - ring
    assert into <= yields, "whoever enters a roundabout yields"
    for edge in yields:
        letters = {k.yields for lane in graph.lanes_of(edge) for k in graph.links_from(lane.id)}
        assert not letters or ("m" in letters and "M" not in letters)  # a dead end's way on is not kept
    (barred,) = [s for s in road_map.signs if s.kind == SignKind.NO_LEFT]
    assert "left" not in graph.branches(road_map.lanes[barred.lane].edge)
    guarded = {road_map.lanes[s.lane].edge for s in road_map.signs if s.kind == SignKind.NO_ENTRY}
    assert guarded == {"513", "514"}, "the one-way pair"


def test_an_all_way_stop_gets_stop_signs():
    road_map = build_town(TownConfig(style="grid", size=3, size_y=3, signal_share=0.0, seed=3))
    minor = {k.from_lane for k in road_map.links if k.yields == "m"}
    links = tuple(replace(k, yields="w") if k.from_lane in minor else k for k in road_map.links)
    stops = [s for s in plan_signs(replace(road_map, links=links)) if s.kind == SignKind.STOP]
    assert {road_map.lanes[s.lane].edge for s in stops} <= {road_map.lanes[name].edge for name in minor}
    assert len(stops) >= 4 and isinstance(links[0], Link)


def test_towns_have_no_signs_unless_asked_and_are_the_same_roads_with_them():
    config = TownConfig(style="grid", size=3, size_y=3, seed=3)
    plain, signed = build_map(config), build_map(replace(config, signs=True))
    assert plain.signs == () and len(signed.signs) > 5
    assert plain.id == signed.id and build_scenery(plain).digest() == build_scenery(build_town(config)).digest()


@pytest.mark.parametrize("family", ["construction_taper", "construction_two_way"])
def test_works_are_announced_and_the_twin_has_no_sign(family):
    from drivebyword.core.kinematics import CarConfig
    from drivebyword.world.place import Places

    places = Places(tiny(), CarConfig(), 0.2, render=False)
    found = {}
    for twin in (False, True):
        scenario = find_scenario(family)
        stage = Stage(1_000_001, family, twin, places.get)
        assert scenario.family is not None
        scenario.family.build(stage)
        found[twin] = [actor for actor in stage.actors if actor.body.kind == AgentKind.SIGN]
        assert {actor.name for actor in found[twin]} <= set(stage.edge_actors)
    assert len(found[False]) == 1 and found[True] == []
    sign = found[False][0]
    assert int(sign.lights) == int(SignKind.WORKS)
    middle = (sign.path[0] + sign.path[1]) / 2
    s, offset, heading = project(middle, stage.way.line)
    facing = np.arctan2(*(sign.path[1] - sign.path[0])[::-1])
    assert offset < -stage.lane_width / 2 - 0.5 and np.cos(facing - heading) < -0.97
    assert stage.ego_s + 20.0 < s < stage.ego_s + 80.0
