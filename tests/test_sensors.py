"""Sensors: what must be seen is seen, on the right side, at the right distance, the same bytes every time."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from empty_street import DAY, FOG, NIGHT, empty_scenery, scene

from drivebyword.core.records import AgentKind
from drivebyword.core.rig import CameraConfig, RigConfig, Weather
from drivebyword.world import bodies, kernel, radar, ranging
from drivebyword.world.rigs import reference, tiny
from drivebyword.world.scenery import build_scenery
from drivebyword.world.sensors import Sensors
from drivebyword.world.solids import FACADE, solid


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(sensors, town):
    seen = scene((15.0, 1.0, 0.3, AgentKind.CAR, 3.0, 1), (9.0, -5.0, 0.0, AgentKind.PEDESTRIAN, 1.0, 0), speed=5.0)
    first = sensors.observe(seen, DAY, np.random.default_rng(3))
    second = Sensors(tiny(), *town).observe(seen, DAY, np.random.default_rng(3))
    other = sensors.observe(seen, DAY, np.random.default_rng(4))
    for name in first.cameras:
        assert first.cameras[name].tobytes() == second.cameras[name].tobytes()
        assert first.cameras[name].tobytes() != other.cameras[name].tobytes()
    assert first.lidar.tobytes() == second.lidar.tobytes()
    assert first.radar.tobytes() == second.radar.tobytes()
    assert first.lidar.tobytes() != other.lidar.tobytes()


def test_shapes_and_types_are_what_the_rig_says(town):
    for rig in (tiny(), reference()):
        frame = Sensors(rig, *town).observe(scene(), DAY, 1)
        assert set(frame.cameras) == {c.name for c in rig.cameras}
        for camera in rig.cameras:
            assert frame.cameras[camera.name].shape == (camera.height, camera.width, 3)
        assert frame.lidar.shape == (rig.lidar.beams, rig.lidar.columns, 2)
        assert frame.radar.shape == (rig.radar.detections, 4)
        assert frame.radar[~frame.radar_valid].sum() == 0


@pytest.mark.parametrize(("signal", "channel"), [(0, 0), (2, 1)])
@pytest.mark.parametrize("weather", [DAY, NIGHT])
def test_a_signal_at_forty_metres_shows_its_colour_in_the_tele(sensors, signal, channel, weather):
    picture = sensors.observe(scene(signal=signal), weather, 1).cameras["tele"].astype(int)
    others = picture[..., [c for c in range(3) if c != channel]]
    assert ((picture[..., channel] > 150) & (picture[..., channel] > others.max(-1) + 60)).sum() >= 3


def test_a_signal_seen_from_behind_shows_no_lamp(town):
    road_map, ground, scenery = town
    turned = replace(road_map, signals=(replace(road_map.signals[0], yaw=0.0),))
    picture = Sensors(tiny(), turned, ground, scenery).observe(scene(signal=0), DAY, 1).cameras["tele"].astype(int)[:34]
    assert ((picture[..., 0] > 150) & (picture[..., 0] > picture[..., 1:].max(-1) + 60)).sum() == 0


def test_lidar_measures_a_cars_distance(sensors):
    x = 20.0
    frame = sensors.observe(scene((x, -1.6, 0.0, AgentKind.CAR, 0.0, 0)), DAY, 1)
    truth = x - 2.2 - 1.2
    ahead = frame.lidar[:, 63:65, 0]
    struck = ahead[np.abs(ahead - truth) < 0.15]
    assert len(struck) >= 2
    assert frame.lidar[..., 0].max() <= 80.5
    assert np.array_equal(frame.lidar[..., 0] * 64, np.round(frame.lidar[..., 0] * 64))


def test_lidar_sees_flat_ground_where_geometry_puts_it(sensors):
    frame = sensors.observe(scene(), DAY, 1)
    elevation = np.radians(np.linspace(-14, 4, 16))
    for beam in range(8):
        measured = frame.lidar[beam, :, 0]
        measured = measured[measured > 0]
        assert abs(np.median(measured) - 1.8 / np.sin(-elevation[beam])) < 0.05


def test_lidar_intensity_tells_paint_from_asphalt(sensors, town):
    ground = town[1]
    frame = sensors.observe(scene(), DAY, 1)
    beam, elevation = 0, np.radians(14.0)
    reach = 1.8 / np.tan(elevation)
    azimuth = np.pi - (np.arange(128) + 0.5) * 2 * np.pi / 128
    points = np.stack([1.2 + reach * np.cos(azimuth), -1.6 + reach * np.sin(azimuth)], 1)
    kinds, shine = ground.material(points), frame.lidar[beam, :, 1]
    assert shine[kinds == 1].mean() < 0.2
    white = shine[(kinds == 6) & (shine > 0)]
    assert len(white) == 0 or white.mean() > 0.5


@pytest.mark.parametrize(("side", "y"), [("left", 6.0), ("right", -9.0)])
def test_left_is_left_in_every_sensor(sensors, side, y):
    seen = scene((12.0, y, 0.0, AgentKind.CAR, 0.0, 0))
    bare = sensors.observe(scene(), DAY, 1)
    frame = sensors.observe(seen, DAY, 1)
    changed = np.abs(frame.cameras["wide"].astype(int) - bare.cameras["wide"]).max(-1).max(0) > 40
    columns = np.flatnonzero(changed)
    assert len(columns) and ((columns < 96) == (side == "left")).all()
    struck = np.flatnonzero((np.abs(frame.lidar[..., 0] - bare.lidar[..., 0]) > 1.0).sum(0) >= 3)
    # The picture's middle looks ahead; columns run from back left, ahead, to back right.
    assert len(struck) and ((struck < 64) == (side == "left")).all()
    azimuth = frame.radar[frame.radar_valid][:, 1]
    assert len(azimuth) and ((azimuth > 0) == (side == "left")).all()


@pytest.mark.parametrize(("own", "theirs", "sign"), [(10.0, 0.0, -1), (0.0, 8.0, 1), (8.0, 8.0, 0)])
def test_doppler_is_positive_when_the_gap_grows(sensors, own, theirs, sign):
    frame = sensors.observe(scene((25.0, -1.6, 0.0, AgentKind.CAR, theirs, 0), speed=own), DAY, 7)
    rows = frame.radar[frame.radar_valid]
    nearest = rows[np.abs(rows[:, 0] - (25 - 2.2 - 3.6)).argmin()]
    assert abs(nearest[2] - (theirs - own)) < 0.6
    assert sign == 0 or np.sign(nearest[2]) == sign


def test_night_and_fog_dim_the_camera_and_spare_the_radar(sensors):
    seen = scene((28.0, 4.0, 0.0, AgentKind.CAR, 3.0, 0), (28.0, -6.0, 0.0, AgentKind.CAR, 3.0, 0), speed=5.0)
    frames = {name: sensors.observe(seen, w, 5) for name, w in (("day", DAY), ("night", NIGHT), ("fog", FOG))}
    contrast = {name: frame.cameras["tele"].astype(float).std() for name, frame in frames.items()}
    assert contrast["night"] < 0.8 * contrast["day"]
    assert contrast["fog"] < 0.8 * contrast["day"]
    for name in ("night", "fog"):
        assert abs(int(frames[name].radar_valid.sum()) - int(frames["day"].radar_valid.sum())) <= 1
    returns = {name: (frame.lidar[..., 0] > 12.0).sum() for name, frame in frames.items()}
    assert returns["night"] == returns["day"]
    assert returns["fog"] < 0.7 * returns["day"]


def test_a_truck_hides_what_is_behind_it(sensors):
    person = (22.0, -1.6, 0.0, AgentKind.PEDESTRIAN, 0.0, 0)
    truck = (12.0, -1.6, 0.0, AgentKind.TRUCK, 0.0, 0)
    assert sensors.visible(scene(person), DAY).tolist() == [True]
    assert sensors.visible(scene(person, truck), DAY).tolist() == [False, True]
    alone = sensors.observe(scene(truck), DAY, 1)
    both = sensors.observe(scene(truck, person), DAY, 1)
    assert np.array_equal(alone.cameras["tele"], both.cameras["tele"])
    assert np.array_equal(alone.lidar, both.lidar)


def test_a_person_twenty_metres_away_shows(sensors):
    seen = sensors.observe(scene((21.6, -1.6, 1.5, AgentKind.PEDESTRIAN, 0.0, 0)), DAY, 1)
    bare = sensors.observe(scene(), DAY, 1)
    for name, least in (("tele", 30), ("wide", 2)):
        changed = np.abs(seen.cameras[name].astype(int) - bare.cameras[name]).max(-1) > 30
        assert changed.sum() >= least
    assert (np.abs(seen.lidar[..., 0] - 20.3) < 0.4).sum() >= 2 > (np.abs(bare.lidar[..., 0] - 20.3) < 0.4).sum()


def test_brake_lamps_light_up(sensors):
    lamps = {}
    for lights in (0, 1):
        frame = sensors.observe(scene((15.0, -1.6, 0.0, AgentKind.CAR, 0.0, lights)), DAY, 1)
        picture = frame.cameras["tele"].astype(int)
        lamps[lights] = ((picture[..., 0] > 190) & (picture[..., 1] < 110) & (picture[..., 2] < 110)).sum()
    assert lamps[1] >= lamps[0] + 6


def test_markings_survive_the_small_picture(sensors):
    """The centre line must stand out from the asphalt beside it, row by row, down to 25 m."""
    picture = sensors.observe(scene(), DAY, 1).cameras["wide"].astype(float).mean(-1)
    lens = sensors.lenses["wide"]
    for x in (5.0, 8.0, 12.0, 18.0, 25.0):
        at = lens.project(np.array([[x, 0.0, 0.0], [x, -1.6, 0.0]]), np.array([1.6, -1.6, 1.5, 0.0]))
        row = int(at[0, 1])
        line = picture[row, int(at[0, 0]) - 1 : int(at[0, 0]) + 2].max()
        assert line > picture[row, int(at[1, 0])] + 25, f"centre line lost at {x} m"


def test_projection_agrees_with_the_picture(sensors):
    """A lamp's red pixels lie where `project` says."""
    picture = sensors.observe(scene(signal=0), DAY, 1).cameras["tele"].astype(int)
    picture = picture[:34]
    rows, cols = np.nonzero((picture[..., 0] > 150) & (picture[..., 0] > picture[..., 1:].max(-1) + 60))
    at = sensors.lenses["tele"].project(np.array([[39.8, -1.6, 4.7 + 0.62]]), np.array([1.6, -1.6, 1.6, 0.0]))[0]
    assert abs(cols.mean() + 0.5 - at[0]) < 1.0
    assert abs(rows.mean() + 0.5 - at[1]) < 1.0


def test_a_wall_hides_and_is_measured(town):
    road_map, ground, _ = town
    row, code = solid(15.0, -1.6, 0.0, (2.0, 30.0), (0.0, 9.0), (200.0, 190.0, 180.0), shader=FACADE)
    wall = replace(empty_scenery(), floats=np.array([row], np.float32), codes=np.array([code], np.int32))
    sensors = Sensors(tiny(), road_map, ground, wall)
    seen = scene((22.0, -1.6, 0.0, AgentKind.CAR, 0.0, 0))
    assert sensors.visible(seen, DAY).tolist() == [False]
    frame = sensors.observe(seen, DAY, 1)
    assert np.median(frame.lidar[10:, 63:65, 0]) == pytest.approx(15.0 - 1.0 - 1.2, abs=0.1)


def test_wrong_sizes_and_projections_are_refused_in_one_line(town, sensors):
    rig = RigConfig(
        name="odd", cameras=(CameraConfig(name="eye", width=8, height=8, fov_deg=190.0),), lidar=None, radar=None
    )
    with pytest.raises(ValueError, match="pinhole"):
        Sensors(rig, *town)
    with pytest.raises(ValueError, match="signal states"):
        sensors.observe(replace(scene(), signals=np.array([0, 1])), DAY, 1)
    with pytest.raises(ValueError, match="fog"):
        Weather(fog_visibility=0.0)


def test_scenery_keeps_off_the_road(town):
    road_map, ground, _ = town
    scenery = build_scenery(road_map)
    boxes = scenery.solid_boxes()
    assert len(boxes) > 3
    assert build_scenery(road_map).digest() == scenery.digest()
    assert not np.isin(ground.material(boxes[:, :2]), [1, 2, 3]).any()


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (kernel, ("angles", "backdrop", "faces", "jit", "light", "noise", "plates", "solids", "texels")),
        (ranging, ("angles", "jit", "noise", "solids")),
        (radar, ("angles", "jit", "noise", "ranging", "solids")),
        (bodies, ("jit", "solids")),
    ],
)
def test_compiled_files_name_what_they_compile_in(module, names):
    """Else numba would go on using an old compilation after only a called file changed."""
    folder = Path(module.__file__).parent
    content = b"".join((folder / f"{name}.py").read_bytes() for name in names)
    digest = hashlib.sha256(content).hexdigest()[:12]
    assert digest == module.CALLED, f'write CALLED = "{digest}" in {Path(module.__file__).name}'
