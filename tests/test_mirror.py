"""The other side of the road: a mirrored world is the exact mirror image, for maps, sensors, traffic and words."""

import subprocess
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from mirror_scenes import deviations, worst

from drivebyword.core.records import INTENTS, Snapshot, other_side
from drivebyword.core.rig import CameraConfig
from drivebyword.tokens.grammar import parse_intent, wordings_of
from drivebyword.world.env import DrivingEnv
from drivebyword.world.families import FAMILIES
from drivebyword.world.graph import RoadGraph
from drivebyword.world.ground import Ground
from drivebyword.world.mirror import mirror, mirror_rig, mirror_sentence, mirror_snapshot
from drivebyword.world.rigs import tiny
from drivebyword.world.roads import RoadMap, SignalHead, TownConfig, build_town, load_road_map
from drivebyword.world.scenario import find_scenario
from drivebyword.world.scenery import build_scenery
from drivebyword.world.town import generate_net, sumo_home

CONFIG = TownConfig(style="grid", size=3, size_y=3, main_lanes=2, signal_share=0.7, seed=11)


@pytest.fixture(scope="module")
def right() -> RoadMap:
    return build_town(CONFIG)


@pytest.fixture(scope="module")
def left() -> RoadMap:
    return build_town(replace(CONFIG, left_hand=True))


@pytest.fixture(scope="module")
def env():
    env = DrivingEnv(render_sensors=False)
    yield env
    env.close()


def same_roads(a: RoadMap, b: RoadMap, tolerance: float = 0.0) -> None:
    """Compare two maps in everything but their names."""
    assert a.left_hand == b.left_hand and list(a.lanes) == list(b.lanes)
    for name, lane in a.lanes.items():
        assert np.allclose(lane.line, b.lanes[name].line, rtol=0, atol=tolerance)
        assert (lane.kind, lane.index, lane.width) == (b.lanes[name].kind, b.lanes[name].index, b.lanes[name].width)
    for p, q in zip(a.links, b.links, strict=True):
        assert (p.from_lane, p.to_lane, p.direction, p.via, p.tls) == (
            q.from_lane,
            q.to_lane,
            q.direction,
            q.via,
            q.tls,
        )
        assert np.allclose(p.path, q.path, rtol=0, atol=tolerance)
    for p, q in zip(a.signals, b.signals, strict=True):
        assert np.allclose((p.x, p.y, p.z, np.cos(p.yaw), np.sin(p.yaw)), (q.x, q.y, q.z, np.cos(q.yaw), np.sin(q.yaw)))
    assert a.stop_lines.keys() == b.stop_lines.keys()
    for name, ends in a.stop_lines.items():
        assert np.allclose(ends, b.stop_lines[name])
    for p, q in zip(a.crossings, b.crossings, strict=True):
        assert np.allclose(p, q)
    assert np.allclose(a.bounds, b.bounds, rtol=0, atol=max(tolerance, 1e-9))


# --------------------------------------------------------------------------- maps


def test_a_left_hand_town_is_what_its_own_network_file_says(left):
    """The mirrored map and the mirrored file, read like any other, agree: SUMO drives where we do."""
    assert left.left_hand and 'lefthand="true"' in Path(left.net_file).read_text()
    same_roads(left, load_road_map(Path(left.net_file)))


def test_a_mirror_in_a_mirror_is_the_original(right):
    twice = right.mirrored().mirrored()
    assert twice.id == right.id
    same_roads(twice, right)


def test_a_mirror_leaves_out_nothing_a_map_holds(right):
    """A new field of RoadMap, Lane, Link or SignalHead must be mirrored (or found to have no side), then named here."""
    held = {field.name for field in fields(RoadMap)}
    assert held == {
        "id", "net_file", "lanes", "links", "junctions", "signals", "stop_lines", "crossings", "bounds", "left_hand",
        "signs", "roundabouts",
    }  # fmt: skip
    assert {field.name for field in fields(SignalHead)} == {"x", "y", "z", "yaw", "lane", "tls", "tls_index"}
    image = right.mirrored()
    for name in ("lanes", "links", "junctions", "signals", "stop_lines", "crossings"):
        assert len(getattr(image, name)) == len(getattr(right, name)) > 0


def test_netconvert_builds_the_same_left_hand_network(right, left, tmp_path):
    """From the mirrored plain files, with --lefthand: the same lanes, links and signals, to its last digit."""
    binary = sumo_home() / "bin" / "netconvert"
    quiet = ["--xml-validation", "never", "--no-warnings", "true"]
    plain = tmp_path / "plain"
    subprocess.run([binary, "-s", right.net_file, "--plain-output-prefix", plain, *quiet], check=True)
    mirrored = tmp_path / "mirrored"
    subprocess.run([binary, "-s", left.net_file, "--plain-output-prefix", mirrored, *quiet], check=True)
    files = [f"{mirrored}.{kind}.xml" for kind in ("nod", "edg", "con", "tll")]
    options = ["--lefthand", "--offset.disable-normalization", "--no-turnarounds", "--walkingareas"]
    options += ["--junctions.internal-link-detail=12", "--junctions.corner-detail=8", "--rectangular-lane-cut"]
    options += ["--default.junctions.radius=10"]
    flags = ["-n", files[0], "-e", files[1], "-x", files[2], "-i", files[3]]
    subprocess.run([binary, *flags, "-o", tmp_path / "net.xml", *options, *quiet], check=True)
    built = load_road_map(tmp_path / "net.xml")
    assert built.left_hand and set(built.lanes) == set(left.lanes)
    # Networks are written to the centimetre.
    worst_line = max(
        np.abs(lane.line - left.lanes[name].line).max()
        for name, lane in built.lanes.items()
        if lane.line.shape == left.lanes[name].line.shape
    )
    assert worst_line < 0.03
    ways = {(k.from_lane, k.to_lane): k.direction for k in left.links}
    assert {(k.from_lane, k.to_lane): k.direction for k in built.links} == ways


def test_the_side_has_no_part_in_a_plan_nor_in_its_cache_key(tmp_path):
    with pytest.raises(ValueError, match="right-hand town"):
        generate_net(replace(CONFIG, left_hand=True), tmp_path)


def test_one_drives_on_the_left_of_the_road(left):
    """Seen along any lane of a street, whoever comes the other way is to the right."""
    graph = RoadGraph(left)
    for a, b in {(k.from_lane, k.to_lane) for k in left.links if k.direction == "straight"}:
        assert left.lanes[a].kind == left.lanes[b].kind == "drive"
    seen = 0
    for name, lane in left.lanes.items():
        back = left.lanes.get("_".join([*lane.edge.split("_")[::-1], str(lane.index)]))
        if lane.kind == "drive" and back is not None:
            along = lane.line[-1] - lane.line[0]
            gap = back.line[-1] - lane.line[0]
            assert along[0] * gap[1] - along[1] * gap[0] < 0, name
            seen += 1
    assert seen > 8
    edge = next(e for e in graph.edges if len(graph.lanes_of(e)) > 1)
    kerb, inner = graph.lanes_of(edge)[:2]
    along, gap = kerb.line[-1] - kerb.line[0], inner.line[0] - kerb.line[0]
    assert along[0] * gap[1] - along[1] * gap[0] < 0 and graph.to_left == -1


def test_scenery_and_painted_ground_mirror_with_the_town(right, left):
    there, here = build_scenery(right), build_scenery(left)
    assert np.array_equal(there.mirrored().floats, here.floats) and here.mirrored().digest() == there.digest()
    flip = Ground.build(right, there).mirrored()
    painted = Ground.build(left, here)
    rng = np.random.default_rng(1)
    points = rng.uniform(left.bounds[:2], left.bounds[2:], (20_000, 2))
    road = flip.material(points)
    # Only what is written stays readable: numbers on the road are not in mirror writing.
    assert (road == painted.material(points)).mean() > 0.98


# --------------------------------------------------------------------------- scenes, sensors, traffic


def test_every_sensor_mirrors():
    """A small share of the 300 scenes: `tests/mirror_scenes.py` compares them all."""
    env = DrivingEnv(rig=tiny())
    scenes = {1_000_004: "town", 1_000_009: "town-night", 1_000_015: "town-fog", 1_000_001: "police_overrides_green"}
    found = [deviations(env, name, seed) for seed, name in scenes.items()]
    env.close()
    most = worst(found)
    assert most.camera_levels == 0 and most.lidar_m == 0.0 and most.radar == 0.0
    # Of two rays of one column that end at the same distance, the first one's intensity counts: a tie is no mirror.
    assert most.lidar_intensity_share < 0.01


def drive(env: DrivingEnv, scenario: str, seed: int, image: bool, steps: int) -> list[Snapshot]:
    _, info = env.reset(seed=seed, options={"scenario": scenario, "mirror": image})
    seen = [env.snapshot()]
    while len(seen) < steps and info["ended"] is None:
        *_, info = env.step(env.expert().act[0])
        seen.append(env.snapshot())
    return seen


@pytest.mark.parametrize(
    ("scenario", "seed"), [("town", 1_000_003), ("town-left", 1_000_004), ("door_opens", 1_000_002)]
)
def test_the_expert_drives_the_mirror_image_as_it_drives_the_scene(env, scenario, seed):
    there = drive(env, scenario, seed, False, 60)
    said = env.mission.sentence
    here = drive(env, scenario, seed, True, 60)
    assert mirror_sentence(env.mission.sentence) == said
    assert len(there) == len(here)
    for a, b in zip(there, here, strict=True):
        b = mirror_snapshot(b)
        assert np.allclose(a.ego, b.ego, atol=1e-6)
        assert np.array_equal(a.agent_key, b.agent_key) and np.array_equal(a.agent_lights, b.agent_lights)
        moved = a.agents - b.agents
        # West is west, written as pi or as -pi, and half a turn in one step has no side.
        moved[:, 2], moved[:, 8] = np.sin(moved[:, 2]), np.sin(moved[:, 8] * env.dt / 2)
        assert np.abs(moved).max(initial=0.0) < 1e-4


def test_the_mirror_of_a_scene_is_undone_by_a_mirror():
    scene = find_scenario("town-mixed").sample(1_000_017)
    image = mirror(scene)
    assert image.town.left_hand and image.image and mirror(image) == scene
    assert [other_side(intent) for intent in image.script] == list(scene.script)


def test_town_left_asks_for_the_same_scenes_mirrored():
    for seed in range(1_000_000, 1_000_010):
        there, here = find_scenario("town").sample(seed), find_scenario("town-left").sample(seed)
        assert here.town == replace(there.town, left_hand=True) and not here.image
        assert here.script == tuple(other_side(intent) for intent in there.script)


def test_a_snapshot_mirrored_twice_is_the_same(env):
    env.reset(seed=1_000_002)
    now = env.snapshot()
    twice = mirror_snapshot(mirror_snapshot(now))
    for name in Snapshot.__slots__:
        assert np.array_equal(getattr(now, name), getattr(twice, name)), name


def test_a_mirrored_rig_looks_the_other_way():
    rig = replace(tiny(), cameras=(CameraConfig(name="side", width=64, height=32, fov_deg=70.0, y=0.8, yaw=0.6),))
    other = mirror_rig(rig).cameras[0]
    assert (other.y, other.yaw) == (-0.8, -0.6) and mirror_rig(mirror_rig(rig)) == rig


# --------------------------------------------------------------------------- words


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("intent", [name for name in INTENTS if other_side(name) != name])
def test_a_mirrored_sentence_asks_for_the_mirrored_thing(intent, split):
    sentences = wordings_of(intent, split)
    # Where a finger slipped elsewhere in the sentence, no grammar knows its mirror image.
    heard = [parse_intent(mirror_sentence(s)) for s in sentences]
    assert set(heard) <= {other_side(intent), None} and heard.count(None) <= 0.15 * len(sentences)


def test_sentences_keep_their_manners():
    assert mirror_sentence("All right, turn left right now!") == "All right, turn right right now!"
    assert mirror_sentence("Right, TURN LEFT") == "Right, TURN RIGHT"
    assert mirror_sentence("Take the lane on the right now") == "Take the lane on the left now"
    assert mirror_sentence("stop right now") == "stop right now"
    assert mirror_sentence("turn leftwards") == "turn rightwards"
    assert mirror_sentence("go lft at the next corner") == "go right at the next corner"


@pytest.mark.parametrize("name", FAMILIES)
def test_the_expert_drives_the_image_of_every_family_as_its_mirror(env, name):
    """Whoever writes `left` where it means away from the kerb is found out here."""
    ways = []
    for image in (False, True):
        _, info = env.reset(seed=1_000_003, options={"scenario": name, "mirror": image})
        way = [env.pose()]
        while info["ended"] is None and len(way) < 160:
            *_, info = env.step(env.expert().act[0])
            way.append(env.pose())
        ways.append(np.array(way) * (np.array([1.0, -1.0, -1.0]) if image else 1.0))
    assert len(ways[0]) == len(ways[1])
    np.testing.assert_allclose(ways[0], ways[1], atol=1e-6)
