"""Faults: each changes what it says, from when and for how long, and nothing else; no driver falls over any."""

from dataclasses import fields, replace

import numpy as np
import pytest
from small_policy import ScriptedReader, make_policy

from drivebyword.core.faults import KINDS, FaultConfig, fault_of
from drivebyword.core.kinematics import CarConfig
from drivebyword.core.records import Observation
from drivebyword.data.dataset import Dataset, DatasetWriter
from drivebyword.guard.guard import Guard, GuardConfig
from drivebyword.loop.driver import ConstantSpeed, Driver, driver_in
from drivebyword.loop.policies import load_policy
from drivebyword.loop.rollout import ExpertPolicy, run_episode
from drivebyword.model.streaming import StreamingPolicy
from drivebyword.world.env import DrivingEnv
from drivebyword.world.faults import Faults
from drivebyword.world.rigs import tiny
from drivebyword.world.scenario import Scenario, find_scenario

EVERY = [(sensor, kind) for sensor, kinds in KINDS.items() for kind in kinds]
DT = 0.2


@pytest.fixture(scope="module")
def env():
    env = DrivingEnv()
    yield env
    env.close()


@pytest.fixture(scope="module")
def drive(env) -> list[Observation]:
    """Twenty decisions of a drive, as a sound car sees them."""
    env.reset(seed=1_000_003)
    seen = [env.observation()]
    while len(seen) < 20:
        env.step(env.expert().act[0])
        seen.append(env.observation())
    return seen


def broken(drive: list[Observation], fault: FaultConfig) -> list[Observation]:
    one = Faults((fault,), tiny(), 5, DT)
    return [one.apply(seen) for seen in drive]


def changed(clean: Observation, seen: Observation) -> set[str]:
    """Return the names of the readings that differ in a bit, a type or a shape."""
    names = set()
    for field in fields(Observation):
        a, b = getattr(clean, field.name), getattr(seen, field.name)
        if field.name == "cameras":
            names |= {n for n in {**a, **b} if n not in a or n not in b or not _same(a[n], b[n])}
        elif not _same(a, b):
            names.add(field.name)
    return names


def _same(a, b) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return type(a) is type(b) and a == b


@pytest.mark.parametrize(("sensor", "kind"), EVERY)
def test_a_fault_strikes_its_sensor_for_its_time_and_nothing_else(drive, sensor, kind):
    seen = broken(drive, FaultConfig(sensor=sensor, kind=kind, start_s=1.0, duration_s=1.2))
    touched = {
        "camera": {"wide", "tele"},
        "lidar": {"lidar"},
        "radar": {"radar", "radar_valid"},
        "ego": {"ego"},
        "clock": {f.name for f in fields(Observation)} - {"cameras", "instruction"} | {"wide", "tele"},
    }[sensor]
    struck = [changed(a, b) for a, b in zip(drive, seen, strict=True)]
    during = [bool(names) for names in struck[5:11]]
    assert not any(struck[:5]) and not any(struck[11:]), "sound before and after"
    assert all(names <= touched for names in struck)
    partly = kind in ("spikes", "out_of_order", "duplicate")
    assert any(during) or kind == "spikes" if partly else all(during) or (kind == "frozen" and sum(during) >= 5)
    assert all(b.instruction == a.instruction for a, b in zip(drive, seen, strict=True))


@pytest.mark.parametrize(("sensor", "kind"), EVERY)
def test_a_fault_without_an_end_lasts_and_is_the_same_every_time(drive, sensor, kind):
    fault = FaultConfig(sensor=sensor, kind=kind, start_s=1.0)
    one, other = broken(drive, fault), broken(drive, fault)
    assert all(not changed(a, b) or kind == "nan" for a, b in zip(one, other, strict=True))
    assert changed(drive[-1], one[-1]) or changed(drive[-2], one[-2]) or kind == "spikes"


def test_a_second_look_at_the_same_moment_sees_the_same(drive):
    one = Faults((fault_of("clock.delay@1"), fault_of("lidar.dropout@1"), fault_of("tele.frozen@2")), tiny(), 5, DT)
    for seen in drive:
        assert not changed(one.apply(seen), one.apply(replace(seen)))


def at(drive, text, step=10):
    return broken(drive, fault_of(text))[step], drive[step]


def test_cameras_break_as_named(drive):
    for text, check in {
        "wide.black@1": lambda a, b: not a.any(),
        "wide.white@1": lambda a, b: (a == 255).all(),
        "wide.occluded@1": lambda a, b: not a[:, :96].any() and np.array_equal(a[:, 96:], b[:, 96:]),
        "wide.colour_swap@1": lambda a, b: np.array_equal(a, b[..., [2, 1, 0]]),
        "wide.flip@1": lambda a, b: np.array_equal(a[:, 0], b[:, -1]),
        "wide.blur@1": lambda a, b: 0.2 * b.std() < a.astype(float).std() < b.std() and abs(a.mean() - b.mean()) < 4,
        "wide.wrong_shape@1": lambda a, b: a.shape == (63, 192, 3),
        "wide.wrong_dtype@1": lambda a, b: a.dtype == np.float64,
    }.items():  # fmt: skip
        seen, clean = at(drive, text)
        assert check(seen.cameras["wide"], clean.cameras["wide"]), text
        assert _same(seen.cameras["tele"], clean.cameras["tele"])
    assert set(at(drive, "wide.missing@1")[0].cameras) == {"tele"} and not at(drive, "camera.missing@1")[0].cameras
    assert _same(at(drive, "tele.frozen@1")[0].cameras["tele"], drive[4].cameras["tele"])


def test_lidar_breaks_as_named(drive):
    seen, clean = at(drive, "lidar.dropout@1")
    back = clean.lidar[..., 0] > 0
    assert (seen.lidar[back, 0] == 0).mean() == pytest.approx(0.5, abs=0.05)
    seen, _ = at(drive, "lidar.offset@1")
    assert np.allclose(seen.lidar[back, 0], clean.lidar[back, 0] + 1.0) and not seen.lidar[~back, 0].any()
    seen, _ = at(drive, "lidar.rain@1")
    splash = seen.lidar[..., 0] != clean.lidar[..., 0]
    assert splash.mean() == pytest.approx(0.1, abs=0.02) and seen.lidar[splash, 0].max() <= 10.0
    seen, _ = at(drive, "lidar.ghost@1")
    ghost = np.flatnonzero((seen.lidar[..., 0] != clean.lidar[..., 0]).any(0))
    assert len(ghost) and abs(ghost - 63.5).max() < 3 and seen.lidar[:, ghost, 0].max() > 9.9
    assert not at(drive, "lidar.empty@1")[0].lidar.any() and at(drive, "lidar.missing@1")[0].lidar is None
    assert np.isnan(at(drive, "lidar.nan@1")[0].lidar).any() and np.isinf(at(drive, "lidar.inf@1")[0].lidar).any()
    tiny_number = at(drive, "lidar.denormal@1")[0].lidar.reshape(-1)[0]
    assert 0 < tiny_number < np.finfo(np.float32).tiny


def test_radar_and_ego_break_as_named(drive):
    seen, clean = at(drive, "radar.velocity_sign@1")
    assert np.array_equal(seen.radar[:, 2], -clean.radar[:, 2]) and np.array_equal(seen.radar[:, 0], clean.radar[:, 0])
    assert not at(drive, "radar.empty@1")[0].radar_valid.any() and at(drive, "radar.missing@1")[0].radar is None
    seen, clean = at(drive, "radar.ghost@1")
    ghost = [row for row in seen.radar[seen.radar_valid] if row[0] == 12.0 and row[1] == 0.0]
    assert len(ghost) == 1 and ghost[0][2] == -clean.ego[0] and (np.diff(seen.radar[seen.radar_valid][:, 0]) >= 0).all()
    assert at(drive, "ego.no_speed@1")[0].ego[0] == 0.0
    seen, clean = at(drive, "ego.scaled_speed@1")
    assert seen.ego[0] == pytest.approx(1.1 * clean.ego[0], rel=1e-6)
    seen, clean = at(drive, "ego.yaw_bias@1")
    assert seen.ego[1] - clean.ego[1] == pytest.approx(np.radians(2.0), abs=1e-6)
    assert at(drive, "ego.wrong_shape@1")[0].ego.shape == (6,)


def test_the_clock_breaks_as_named(drive):
    seen, clean = at(drive, "clock.ahead@1")
    assert seen.time_s == clean.time_s + 0.5 and _same(seen.lidar, clean.lidar)
    seen, _ = at(drive, "clock.delay@1")
    late = drive[10 - round(0.5 / DT)]
    assert seen.time_s == late.time_s and _same(seen.lidar, late.lidar), "late as a whole, with its own time stamp"
    times = [o.time_s for o in broken(drive, fault_of("clock.out_of_order"))]
    assert (np.diff(times) < 0).any() and (np.diff(times) > 0).any()
    times = [o.time_s for o in broken(drive, fault_of("clock.duplicate"))]
    assert (np.diff(times) == 0).sum() == 10
    delays = []
    for start in range(30):  # other scenes, other spikes
        one = Faults((fault_of("clock.spikes"),), tiny(), start, DT)
        delays += [seen.time_s - one.apply(seen).time_s for seen in drive[0:20]][8:]
    late = np.array(delays)[np.array(delays) > 1e-6]
    assert len(late) / len(delays) == pytest.approx(0.2, abs=0.06) and late.max() <= 1.6
    assert np.isnan(at(drive, "clock.nan@1")[0].time_s)


def test_faults_add_up(drive):
    one = Faults((fault_of("camera.black@1"), fault_of("lidar.empty@1"), fault_of("clock.delay@1.4")), tiny(), 5, DT)
    seen = [one.apply(o) for o in drive][-1]
    assert not seen.lidar.any() and not seen.cameras["wide"].any() and seen.time_s < drive[-1].time_s
    assert one.active(1.2) == ("camera.black", "lidar.empty") and one.active(0.8) == ()


# --------------------------------------------------------------------------- naming


def test_a_scenario_takes_faults_by_name():
    scenario = find_scenario("dense_fog/twin+wide.black@5:1+lidar.empty")
    assert scenario.twin and scenario.name == "dense_fog/twin+wide.black@5:1+lidar.empty"
    assert scenario.faults[0] == FaultConfig(sensor="wide", kind="black", start_s=5.0, duration_s=1.0)
    assert scenario.faults[1].duration_s is None and find_scenario("town").faults == ()
    assert fault_of("tele.blur").name == "tele.blur" and fault_of("lidar.offset").strength == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lidar.emty", "use empty"),
        ("lidar", "is no fault"),
        ("lidar.empty@soon", "is no fault"),
        ("lidar.empty@1.2.3", "is no fault"),
        ("radar.black", "no fault 'black' of a radar"),
    ],
)
def test_a_fault_nobody_knows_is_refused_in_one_line(text, message):
    with pytest.raises(ValueError, match=message) as error:
        fault_of(text)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError):
        FaultConfig(sensor="lidar", kind="empty", start_s=float("nan"))
    with pytest.raises(ValueError, match="has no 'rear'"):
        Faults((fault_of("rear.black"),), tiny(), 0, DT)


# --------------------------------------------------------------------------- in the world


BROKEN = ["wide.missing@0.4:0.4", "lidar.nan@0.4:0.4", "radar.wrong_shape@0.4:0.4", "ego.inf@0.4:0.4"]


@pytest.mark.parametrize("text", BROKEN)
def test_the_environment_stays_in_its_space_and_tells_the_truth(env, text):
    fault = fault_of(text)
    seen, info = env.reset(seed=1_000_003, options={"scenario": f"town+{text}"})
    told = [info["faults"]]
    for _ in range(5):
        assert env.observation_space.contains(seen)
        seen, *_, info = env.step(env.expert().act[0])
        told.append(info["faults"])
    assert told == [(), (), (fault.name,), (fault.name,), (), ()]


def test_an_absent_reading_is_zeros_for_gymnasium(env):
    seen, _ = env.reset(seed=1_000_003, options={"scenario": "town+wide.missing+radar.nan"})
    assert not seen["camera_wide"].any() and seen["camera_tele"].any()
    assert not seen["radar"].any() and not seen["radar_valid"].any()
    assert "wide" not in env.observation().cameras
    assert np.isnan(env.observation().radar).any()


def test_an_episode_carries_its_faults_and_keeps_them_on_disk(env, tmp_path):
    driver = driver_in(env, ExpertPolicy(env), guarded=True)
    episode = run_episode(env, driver, seed=3, scenario="town+wide.missing@0.4:0.4+clock.ahead@1", name="expert",
                          keep_sensors=True, seconds=2.4)  # fmt: skip
    assert [f.name for f in episode.faults] == ["wide.missing", "clock.ahead"]
    assert np.allclose(np.diff(episode.time_s), 0.2), "the record's time is the world's"
    assert not episode.cameras["wide"][2].any() and episode.cameras["wide"][5].any()
    assert {"the observation is from the future"} == set(episode.verdict_why[5:])
    writer = DatasetWriter(tmp_path / "set", rig=tiny())
    writer.add(episode)
    writer.finalize()
    assert Dataset(tmp_path / "set").read_episode(0).faults == episode.faults


# --------------------------------------------------------------------------- drivers


@pytest.fixture(scope="module")
def network():
    return StreamingPolicy(make_policy(), ScriptedReader(make_policy().config.reader))


@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize(("sensor", "kind"), EVERY)
def test_no_driver_falls_over_a_fault(drive, network, sensor, kind, guarded):
    guard = Guard(GuardConfig(dt=DT), tiny(), CarConfig()) if guarded else None
    driver = Driver(network, guard, tiny())
    driver.reset()
    seen = broken(drive, FaultConfig(sensor=sensor, kind=kind, start_s=0.4, duration_s=1.0))
    for now, observation in zip(drive[:10], seen, strict=False):
        actuation, decision, verdict = driver.drive(observation, now.time_s)
        sent = actuation.as_array()
        assert np.isfinite(sent).all() and (np.abs(sent) <= 1).all()
        assert decision.act.steps.shape == (4, 3) and isinstance(verdict.why, str)


@pytest.mark.parametrize("text", ["ego.nan@0.4", "ego.wrong_shape@0.4", "clock.nan@0.4"])
@pytest.mark.parametrize("guarded", [True, False])
def test_without_its_own_measurements_the_car_stops(env, text, guarded):
    episode = run_episode(env, driver_in(env, ConstantSpeed(), guarded), seed=1_000_003, scenario=f"town+{text}",
                          name="constant", label=False, seconds=8.0)  # fmt: skip
    assert episode.motion[-1, 0] == 0.0 and "the ego's own measurements" in episode.verdict_why[5]


@pytest.mark.parametrize("text", ["camera.black", "camera.missing", "camera.wrong_shape", "lidar.empty", "clock.ahead"])
def test_a_guarded_car_stops_for_what_it_must_not_drive_with(env, text):
    driver = driver_in(env, ConstantSpeed(), guarded=True)
    episode = run_episode(env, driver, seed=1_000_003, scenario=f"town+{text}@1", name="constant", label=False,
                          seconds=8.0)  # fmt: skip
    assert episode.motion[-1, 0] < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("sensor", KINDS)
def test_the_shipped_driver_survives_every_fault(env, sensor):
    policy = load_policy("tiny", env, threads=1)
    for kind in KINDS[sensor]:
        fault = FaultConfig(sensor=sensor, kind=kind, start_s=1.0)
        episode = run_episode(env, driver_in(env, policy, guarded=True), seed=1_000_003,
                              scenario="town", options={"scenario": Scenario(name="x", faults=(fault,))}, name="tiny",
                              label=False, seconds=3.0)  # fmt: skip
        assert np.isfinite(episode.actuation).all() and episode.ended == "aborted"
