"""Sensor noise against what is said about it: every figure here is measured on enough samples to be wrong."""

from dataclasses import replace

import numpy as np
import pytest
from empty_street import AgentKind, scene

from drivebyword.core.kinematics import CarConfig, CarState, advance
from drivebyword.core.rig import OdometryConfig, RadarConfig, RadarNoise, RigConfig, Weather
from drivebyword.world import echoes, rainfall
from drivebyword.world.odometer import Odometer
from drivebyword.world.sensors import Sensors
from drivebyword.world.solids import BOX, CAR_BODY, FACADE, solid

DAY = Weather()


@pytest.fixture(scope="module")
def dry(sensors):
    """Scans of the empty street, one a frame."""
    return np.stack([sensors.observe(scene(), DAY, k).lidar for k in range(400)])


def share(count: float, n: int) -> float:
    """Return the standard error of a share."""
    return float(np.sqrt(max(count * (1 - count), 1e-9) / n))


# --------------------------------------------------------------------------- LiDAR


def test_ranges_err_by_two_centimetres(dry):
    back = np.where(dry[:, :8, :, 0] > 0, dry[:, :8, :, 0], np.nan)  # the ground
    spread = np.sqrt(np.nanmean(np.nanvar(back, axis=0, ddof=1)))
    rounding = (1 / 64) ** 2 / 12
    assert np.sqrt(spread**2 - rounding) == pytest.approx(0.02, rel=0.05)


def test_near_returns_are_lost_at_the_stated_rate(dry):
    low = dry[:, 0, :, 0]
    reach = np.median(low[low > 0])
    stated = 0.002 + 0.10 * (reach / 80.0) ** 2
    assert (low == 0).mean() == pytest.approx(stated, abs=5 * share(stated, low.size))


@pytest.mark.parametrize("rain", [5.0, 25.0, 100.0])
def test_rain_takes_returns_by_beer_and_lambert_and_drops_answer_instead(sensors, dry, rain):
    weather = Weather(rain=rain)
    beam = 6
    wet = np.stack([sensors.observe(scene(), weather, k).lidar for k in range(150)])[:, beam, :, 0]
    far = dry[:150, beam, :, 0]
    reach = float(np.median(far[far > 0]))
    splash = (wet > 0) & (wet < min(reach - 1.0, rainfall.FAR + 0.01))
    n = wet.size
    stated = rainfall.drop_rate(rain)
    assert splash.mean() == pytest.approx(stated, abs=5 * share(stated, n))
    dry_lost = (far == 0).mean()
    lost = 1.0 - (1.0 - dry_lost) * (1.0 - rainfall.loss_rate(weather, reach))
    lost *= 1.0 - stated
    assert (wet == 0).mean() == pytest.approx(lost, abs=5 * share(lost, n))


def test_more_rain_takes_more_and_marshall_and_palmer_s_integral_is_the_extinction():
    assert rainfall.drop_rate(0.0) == 0.0 and Weather().rain_extinction == 0.0
    rates = [rainfall.drop_rate(r) for r in (1.0, 5.0, 25.0, 100.0)]
    assert (np.diff(rates) > 0).all() and 0.005 < rates[2] < 0.05
    for rain in (2.0, 25.0, 80.0):
        size = np.linspace(0, 40, 400_001)
        drops = 8000 * np.exp(-4.1 * rain**-0.21 * size)
        shadow = np.trapezoid(2 * np.pi / 4 * size**2 * 1e-6 * drops, size)
        assert Weather(rain=rain).rain_extinction == pytest.approx(shadow, rel=0.01)


def test_rain_and_fog_shorten_sight_and_rain_takes_grip():
    assert DAY.sight == 1500.0 and DAY.grip == 1.0
    assert Weather(rain=50.0).sight < 400.0 and Weather(fog_visibility=30.0).sight == 45.0
    assert Weather(rain=50.0, fog_visibility=30.0).sight < 45.0
    assert 0.6 <= Weather(rain=50.0).grip < Weather(rain=2.0).grip < 0.81

    def stops_in(grip: float) -> float:
        car, state = CarConfig().on(grip), CarState(0.0, 0.0, 0.0, speed=14.0)
        while state.speed > 0:
            state = advance(state, np.array([0.0, 0.0, 1.0]), 0.2, car)
        return state.x

    assert stops_in(0.6) > 1.35 * stops_in(1.0)
    for bad in ({"rain": -1.0}, {"glare": 2.0}, {"dirt": float("nan")}):
        with pytest.raises(ValueError, match="Weather"):
            Weather(**bad)


# --------------------------------------------------------------------------- radar


def radar_only(noise: RadarNoise | None) -> RigConfig:
    return RigConfig(
        name="r", cameras=(), lidar=None, radar=RadarConfig(columns=64, rows=3, detections=24, noise=noise)
    )


def detections(town, noise, agents, frames: int, weather: Weather = DAY, first: int = 0):
    one = Sensors(radar_only(noise), *town)
    seen = [one.observe(scene(*agents), weather, k) for k in range(first, first + frames)]
    return [frame.radar[frame.radar_valid] for frame in seen]


QUIET = RadarNoise(mirror_rate=0.0, clutter=0.0, missed=0.0)
CAR = AgentKind.CAR


def near(rows: list[np.ndarray], reach: float, azimuth: float) -> np.ndarray:
    every = np.concatenate(rows)
    return every[(np.abs(every[:, 0] - reach) < 1.0) & (np.abs(every[:, 1] - azimuth) < np.radians(9.0))]


@pytest.mark.parametrize("azimuth_deg", [0.0, 30.0, 50.0])
def test_the_azimuth_errs_more_to_the_side(town, azimuth_deg):
    angle = np.radians(azimuth_deg)
    x, y = 3.6 + 18.0 * np.cos(angle), -1.6 + 18.0 * np.sin(angle)
    found = near(detections(town, QUIET, [(x, y, 0.0, CAR, 0.0, 0)], 1500), 16.0, angle)
    assert len(found) > 1000
    stated = np.radians(0.5) / np.cos(angle)
    assert found[:, 1].std(ddof=1) == pytest.approx(stated, rel=0.07)


def test_range_and_range_rate_err_as_stated(town):
    found = near(detections(town, QUIET, [(20.0, -1.6, 0.0, CAR, 5.0, 0)], 1500), 20.0 - 2.2 - 3.6, 0.0)
    assert found[:, 0].std(ddof=1) == pytest.approx(0.1, rel=0.06)
    assert found[:, 2].std(ddof=1) == pytest.approx(0.1, rel=0.06)
    assert found[:, 2].mean() == pytest.approx(5.0, abs=0.02)
    assert found[:, 3].std(ddof=1) == pytest.approx(2.5, rel=0.07)


def test_clutter_is_poisson_and_misses_are_a_share(town):
    agents = [(20.0, -1.6, 0.0, CAR, 0.0, 0)]
    plain = detections(town, QUIET, agents, 1500)
    noisy = detections(town, replace(QUIET, clutter=2.0, missed=0.2), agents, 1500)
    more = np.array([len(b) for b in noisy]) - np.array([len(a) for a in plain]) * 0.8
    assert more.mean() == pytest.approx(2.0, abs=0.2)
    kept = len(near(noisy, 14.2, 0.0)) / len(near(plain, 14.2, 0.0))
    assert kept == pytest.approx(0.8, abs=0.04)


def test_a_mirror_shows_an_image_where_geometry_puts_it_at_the_stated_rate(town):
    # A lorry stands on the left, a car drives ahead on the right: its image lies behind the lorry's side.
    lorry, car = (20.0, 6.0, 0.0, AgentKind.TRUCK, 0.0, 0), (38.0, -1.6, 0.0, CAR, 4.0, 0)
    face = 6.0 - 1.2 + 1.6  # the side above the radar's axis
    image = np.array([38.0 - 2.2 - 3.6, 2 * face])
    reach, azimuth = np.hypot(*image), np.arctan2(image[1], image[0])
    plain = detections(town, QUIET, (lorry, car), 800)
    ghosts = detections(town, replace(QUIET, mirror_rate=0.4), (lorry, car), 800)

    def count(rows: list[np.ndarray]) -> np.ndarray:
        return np.array([((np.abs(r[:, 0] - reach) < 1.5) & (np.abs(r[:, 1] - azimuth) < 0.06)).sum() for r in rows])

    seen = np.mean([len(near([r], 38.0 - 2.2 - 3.6, 0.0)) > 0 for r in plain])
    # The plain radar has a ghost or a false alarm there now and then.
    assert count(plain).mean() < 0.05
    assert count(ghosts).mean() - count(plain).mean() == pytest.approx(0.4 * seen, abs=0.05)
    every = np.concatenate(ghosts)
    there = every[(np.abs(every[:, 0] - reach) < 1.5) & (np.abs(every[:, 1] - azimuth) < 0.06)]
    assert np.median(there[:, 2]) == pytest.approx(4.0 * np.cos(azimuth), abs=0.1)  # its path grows along the lorry
    assert np.median(there[:, 3]) == pytest.approx(10.0 - echoes.MIRROR_LOSS, abs=0.6)


def test_only_faces_towards_the_radar_mirror():
    row, code = solid(20.0, 8.0, 0.0, (10.0, 4.0), (0.0, 6.0), (9, 9, 9), shape=BOX, shader=FACADE)
    small, other = solid(10.0, 3.0, 0.0, (4.0, 1.8), (0.2, 1.0), (9, 9, 9), shape=BOX, shader=CAR_BODY)
    floats, codes = np.array([row, small], np.float32), np.array([code, other], np.int32)
    faces = echoes.mirrors(floats, codes, np.arange(2), (0.0, 0.0, 0.6, 0.0))
    assert sorted(map(tuple, faces[:, 2:4].round(6).tolist())) == [(-1.0, 0.0), (0.0, -1.0)]
    assert sorted(faces[:, 4].tolist()) == [2.0, 5.0]


def test_rain_weakens_far_echoes_by_the_itu_s_figure(town):
    agents = [(60.0, -1.6, 0.0, CAR, 0.0, 0)]
    reach = 60.0 - 2.2 - 3.6
    dry = near(detections(town, None, agents, 600), reach, 0.0)
    wet = near(detections(town, None, agents, 600, Weather(rain=100.0)), reach, 0.0)
    stated = 2 * 0.00113 * 100**0.72 * reach
    assert dry[:, 3].mean() - wet[:, 3].mean() == pytest.approx(stated, abs=0.1)
    walker = [(92.0, -1.6, 0.0, AgentKind.PEDESTRIAN, 0.0, 0)]
    faint = [len(near(detections(town, None, walker, 400, w), 88.3, 0.0)) for w in (DAY, Weather(rain=100.0))]
    assert faint[1] < 0.85 * faint[0]


# --------------------------------------------------------------------------- odometry


def drives(config: OdometryConfig | None, seeds: range, steps: int = 50, speed: float = 10.0) -> np.ndarray:
    """Drive straight on; return ego vectors, a row a step, for every seed."""
    car, out = CarConfig(), []
    for seed in seeds:
        odometer, rows = Odometer(car, seed, 0.2, config), []
        for k in range(steps):
            before = CarState(speed * 0.2 * k, 0.0, 0.0, speed=speed)
            after = CarState(speed * 0.2 * (k + 1), 0.0, 0.0, speed=speed)
            odometer.advance(before, after)
            rows.append(odometer.measure(after))
        out.append(rows)
    return np.array(out, float)


def test_the_plain_odometer_errs_from_moment_to_moment_as_stated():
    seen = drives(None, range(200))
    for column, stated in ((0, 0.03), (1, 0.003), (3, 0.05)):
        assert seen[..., column].std() == pytest.approx(stated, rel=0.05)
    step = np.diff(seen[..., 4], axis=1)
    assert (step / 2.0).std() == pytest.approx(0.01, rel=0.05)
    assert np.diff(seen[..., 5], axis=1).std() == pytest.approx(0.0005, rel=0.05)


def test_wheels_and_gyroscope_are_off_for_a_whole_drive():
    config = OdometryConfig()
    seen, plain = drives(config, range(600), 25), drives(None, range(600), 25)
    scale = (seen[..., 0] - plain[..., 0])[:, 0] / 10.0
    assert scale.std() == pytest.approx(config.wheel_scale, rel=0.08)
    assert np.ptp((seen[..., 0] - plain[..., 0])[5]) < 1e-4, "a scene's wheels do not change"
    bias = seen[..., 1] - plain[..., 1]
    assert bias[:, 0].std() == pytest.approx(config.gyro_bias, rel=0.08)
    wander = (bias[:, -1] - bias[:, 0]) / np.sqrt(24 * 0.2)
    assert wander.std() == pytest.approx(config.gyro_walk, rel=0.1)
    assert np.array_equal(drives(config, range(3)), drives(config, range(3)))
