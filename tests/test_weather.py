"""Rain, low sun, dirt and lenses: in the picture where they belong, the same every time, and rigs that can be built."""

from dataclasses import replace

import numpy as np
import pytest
from empty_street import AgentKind, scene

from drivebyword.core.rig import CameraConfig, Distortion, RigConfig, Weather
from drivebyword.evaluate import suites
from drivebyword.loop.policies import load_policy
from drivebyword.world.distortion import Warp, distorted, undistorted
from drivebyword.world.env import DrivingEnv
from drivebyword.world.rigs import RIGS, rig, tiny
from drivebyword.world.scenario import find_scenario
from drivebyword.world.sensors import Lens, Sensors, mounted

DAY = Weather()
AHEAD = Weather(glare=1.0, sun_azimuth=0.0, sun_elevation=0.12)


def tele(sensors, weather, key=1, of=7, seen=None):
    return sensors.observe(seen or scene(), weather, key, of).cameras["tele"].astype(int)


# --------------------------------------------------------------------------- weather


def test_low_sun_whitens_the_picture_round_its_place_and_nothing_when_behind(sensors):
    clear, low = tele(sensors, DAY), tele(sensors, AHEAD)
    lens = sensors.lenses["tele"]
    sun = np.array([[100.0, -1.6, 1.6 + 100.0 * np.tan(0.12)]])
    column, row, _ = lens.project(sun, np.array([1.6, -1.6, 1.6, 0.0]))[0]
    round_it = low[max(int(row) - 2, 0) : int(row) + 3, int(column) - 2 : int(column) + 3]
    assert round_it.min() >= 215 and (low.min(-1) > 200).mean() > 0.05
    assert low[60:, :8].mean() < clear[60:, :8].mean(), "the exposure falls"
    behind = tele(sensors, replace(AHEAD, sun_azimuth=3.1))
    assert np.abs(behind - clear).mean() < 4
    assert np.abs(tele(sensors, replace(AHEAD, night=1.0)) - tele(sensors, Weather(night=1.0))).max() <= 1


def test_a_lorry_or_cloud_hides_the_sun(sensors):
    lorry = scene((12.0, -1.6, 0.0, AgentKind.TRUCK, 0.0, 0))
    pose = np.array(mounted(np.asarray(lorry.ego, float), 1.6, 0.0, 1.6, 0.0))
    sensors.visible(lorry, DAY)
    assert sensors.sun_seen(pose, AHEAD) == 0.0
    assert sensors.sun_seen(pose, replace(AHEAD, sun_elevation=0.5)) == 1.0
    sensors.visible(scene(), DAY)
    assert sensors.sun_seen(pose, AHEAD) == 1.0
    assert sensors.sun_seen(pose, replace(AHEAD, rain=10.0)) == 0.0
    assert sensors.sun_seen(pose, replace(AHEAD, sun_elevation=-0.1)) == 0.0


def test_dirt_stays_where_it_is_for_a_scene_and_is_each_camera_s_own(sensors):
    dirty = Weather(dirt=0.8)

    def stained(key, of, name="tele"):
        one, other = (sensors.observe(scene(), w, key, of).cameras[name].astype(int) for w in (dirty, DAY))
        return np.abs(one - other).max(-1) > 12

    first = stained(1, 7)
    assert 0.02 < first.mean() < 0.6
    assert (first & stained(2, 7)).sum() > 0.8 * first.sum()
    assert (first & stained(1, 8)).sum() < 0.7 * first.sum()
    less = np.abs(tele(sensors, Weather(dirt=0.2)) - tele(sensors, DAY)).mean()
    assert 0 < less < np.abs(tele(sensors, dirty) - tele(sensors, DAY)).mean()


def test_rain_falls_anew_in_every_frame_and_wets_the_road(sensors):
    wet = Weather(rain=25.0)
    one, other = tele(sensors, wet, 1), tele(sensors, wet, 2)
    assert (np.abs(one - other).max(-1) > 15).mean() > 0.002
    road = (slice(50, 64), slice(30, 100))
    wide = [sensors.observe(scene(), w, 1, 7).cameras["wide"].astype(float) for w in (DAY, wet)]
    assert wide[1][52:, 70:120].mean() < 0.75 * wide[0][52:, 70:120].mean()
    assert one[:20].std() < tele(sensors, DAY)[:20].std() + 6 and one[road].shape[2] == 3
    assert np.array_equal(one, tele(sensors, wet, 1))


def test_weather_is_the_same_bytes_on_another_car_and_needs_no_scene(town, sensors):
    every = Weather(rain=8.0, dirt=0.5, glare=0.7, sun_azimuth=0.1, sun_elevation=0.1)
    seen = scene((15.0, 1.0, 0.3, AgentKind.CAR, 3.0, 1), speed=5.0)
    first, second = sensors.observe(seen, every, 3, 9), Sensors(tiny(), *town).observe(seen, every, 3, 9)
    for name in first.cameras:
        assert first.cameras[name].tobytes() == second.cameras[name].tobytes()
    assert first.lidar.tobytes() == second.lidar.tobytes() and first.radar.tobytes() == second.radar.tobytes()


@pytest.mark.parametrize(("name", "field"), [("town-rain", "rain"), ("town-glare", "glare"), ("town-dirt", "dirt")])
def test_a_weather_s_scenario_has_it_and_no_other(name, field):
    for seed in range(1_000_000, 1_000_030):
        weather, day = find_scenario(name).sample(seed).weather, find_scenario("town").sample(seed)
        assert getattr(weather, field) > 0.0
        assert all(getattr(weather, f) == 0.0 for f in ("rain", "glare", "dirt", "night", "ice") if f != field)
        assert find_scenario(name).sample(seed).script == day.script and day.weather == DAY
    assert set(suites.suite("weather").scenarios) >= {name, "town-night", "town-fog"}
    assert len(suites.suite_hash(suites.suite("weather"))) == 16


# --------------------------------------------------------------------------- lenses

BARREL = Distortion(k1=-0.2, k2=0.03, p1=0.002, p2=-0.001)
CAMERA = CameraConfig(name="c", width=160, height=96, fov_deg=90.0, x=1.0, y=0.5, z=1.4, yaw=0.6, pitch=0.1)


def test_intrinsics_and_extrinsics_put_points_where_the_picture_shows_them():
    points = np.array([[9.0, 8.0, 0.2], [20.0, 12.0, 3.0], [6.0, 6.5, 1.4], [15.0, 3.0, 0.0]])
    camera = np.linalg.inv(CAMERA.extrinsics()) @ np.concatenate([points, np.ones((4, 1))], 1).T
    pixel = CAMERA.intrinsics() @ camera[:3]
    shown = Lens(CAMERA, 0.1).project(points, np.array([1.0, 0.5, 1.4, 0.6]))
    assert np.allclose((pixel[:2] / pixel[2]).T, shown[:, :2]) and np.allclose(camera[2], shown[:, 2])
    with pytest.raises(ValueError, match="only a pinhole"):
        tiny().cameras[0].intrinsics()


def test_distortion_is_undone_exactly_and_has_opencv_s_signs():
    x, y = np.meshgrid(np.linspace(-0.9, 0.9, 19), np.linspace(-0.6, 0.6, 13))
    assert np.allclose(undistorted(*distorted(x, y, BARREL), BARREL), (x, y), atol=1e-7)
    # By hand, after OpenCV's documentation: x (1 + k1 r2 + ...) + 2 p1 x y + p2 (r2 + 2 x2).
    at = distorted(np.array([[0.5]]), np.array([[0.25]]), Distortion(k1=-0.2, k2=0.1, p1=0.01, p2=0.02, k3=0.05))
    r2 = 0.3125
    radial = 1 - 0.2 * r2 + 0.1 * r2**2 + 0.05 * r2**3
    assert at[0][0, 0] == pytest.approx(0.5 * radial + 2 * 0.01 * 0.125 + 0.02 * (r2 + 0.5))
    assert at[1][0, 0] == pytest.approx(0.25 * radial + 0.01 * (r2 + 0.125) + 2 * 0.02 * 0.125)


def test_a_distorted_picture_shows_each_ray_where_the_model_puts_it():
    camera = replace(CAMERA, distortion=BARREL)
    warp, matrix = Warp(camera), camera.intrinsics()
    inner = warp.camera.intrinsics()
    assert warp.camera.width > camera.width and inner[0, 0] == pytest.approx(matrix[0, 0])
    for x, y in ((0.0, 0.0), (-0.7, 0.3), (0.6, -0.35), (0.2, 0.4)):
        picture = np.zeros((warp.camera.height, warp.camera.width, 3), np.uint8)
        u, v, _ = inner @ (x, y, 1.0)
        picture[int(v) - 1 : int(v) + 2, int(u) - 1 : int(u) + 2] = 255
        out = warp.apply(picture)[..., 0].astype(float)
        rows, columns = np.mgrid[: out.shape[0], : out.shape[1]] + 0.5
        dx, dy = distorted(np.array([[x]]), np.array([[y]]), BARREL)
        wanted = matrix @ (dx[0, 0], dy[0, 0], 1.0)
        offset = (int(u) + 0.5 - u, int(v) + 0.5 - v)  # the dot's middle is a pixel's, not the ray's
        assert (out * columns).sum() / out.sum() == pytest.approx(wanted[0] + offset[0], abs=0.25)
        assert (out * rows).sum() / out.sum() == pytest.approx(wanted[1] + offset[1], abs=0.25)


def test_no_distortion_is_the_plain_picture_and_a_barrel_bends_it(town):
    lenses = {"a": None, "b": Distortion(), "c": BARREL}
    cameras = tuple(replace(CAMERA, name=name, yaw=0.0, distortion=lens) for name, lens in lenses.items())
    one = Sensors(RigConfig(name="r", cameras=cameras, lidar=None, radar=None), *town)
    seen = one.observe(scene((14.0, -1.6, 0.0, AgentKind.CAR, 0.0, 0)), DAY, 1).cameras
    assert seen["a"].shape == seen["c"].shape
    # Averaged over squares and in shares of the mean, so that noise and exposure, which are others, hardly count.
    plain, still, bent = (seen[n].reshape(12, 8, 20, 8, 3).mean((1, 3)) / seen[n].mean() for n in "abc")
    assert np.abs(plain - still).mean() < 0.005 < 0.01 < np.abs(plain - bent).mean()


@pytest.mark.parametrize(
    ("camera", "message"),
    [
        (replace(CAMERA, distortion=Distortion(k1=-3.0)), "folds the picture over"),
        (replace(CAMERA, projection="cylindrical", distortion=BARREL), "only a pinhole"),
    ],
)
def test_a_lens_that_cannot_be_is_refused_in_one_line(camera, message):
    with pytest.raises(ValueError, match=message) as error:
        Lens(camera, 0.1)
    assert "\n" not in str(error.value)


# --------------------------------------------------------------------------- rigs


@pytest.mark.parametrize("name", RIGS)
def test_every_rig_takes_a_step_in_its_space(name):
    env = DrivingEnv(rig=rig(name))
    try:
        seen, _ = env.reset(seed=1_000_003)
        assert env.observation_space.contains(seen)
        seen, *_ = env.step(env.expert().act[0])
        assert env.observation_space.contains(seen)
        for camera in env.rig.cameras:
            assert seen[f"camera_{camera.name}"].std() > 10, "a picture of something"
        if name != "tiny":
            with pytest.raises(ValueError, match="was trained on rig 'tiny'"):
                load_policy("tiny", env)
    finally:
        env.close()


def test_rigs_are_what_they_are_called_and_an_unknown_one_is_named():
    assert rig("tiny") == tiny() and rig("vision-only").lidar is None and rig("vision-only").radar is None
    seven = rig("seven-camera")
    assert len(seven.cameras) == 7 and seven.radar is not None and seven.radar.noise is not None
    around = np.zeros(360, bool)
    for camera in seven.cameras:
        half, middle = int(camera.fov_deg / 2), round(np.degrees(camera.yaw))
        around[np.arange(middle - half, middle + half) % 360] = True
    assert around.all(), "no blind spot all round"
    with pytest.raises(ValueError, match="seven-camera"):
        rig("seven")
