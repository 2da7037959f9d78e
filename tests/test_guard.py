"""The guard's first duties: sane input, limits, and never a deadlock. Numbers are written again here, on purpose."""

from dataclasses import replace

import numpy as np
import pytest
from guard_world import CAR, DT, RIG, Box, World, hold
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from drivebyword.core.records import Act, Actuation, VerdictKind
from drivebyword.core.rig import CameraConfig
from drivebyword.guard.guard import Guard, GuardConfig
from drivebyword.guard.limits import LimitsConfig, lateral_accel_of, limit, steering_for

LATERAL_ACCEL = 3.0
LATERAL_JERK = 5.0
STEER_STEP = 1.2 * 0.2 / 0.6
COMFORTABLE = 0.35

numbers = st.floats(allow_nan=True, allow_infinity=True, width=64)
modest = st.floats(-3.0, 3.0)


def chunk(steering=0.0, throttle=0.0, brake=0.0):
    return Act(np.tile(np.array([steering, throttle, brake], np.float64), (4, 1)))


def empty_road(speed=8.0):
    """Return an observation of a road with one wall far behind, so that LiDAR is alive."""
    return World([Box(-30.0, 10.0)], speed).observe()


def guard(**changes):
    return Guard(replace(GuardConfig(), **changes), RIG, CAR)


def curved_accel(steering, speed):
    return speed * speed * np.tan(steering * 0.6) / 2.65


# --------------------------------------------------------------------------- limits


@settings(max_examples=400, deadline=None)
@given(modest, modest, modest, st.floats(-1, 1), st.floats(0, 40))
def test_limits_hold_whatever_is_wished(steering, throttle, brake, previous, speed):
    sent, _ = limit(Actuation(steering, throttle, brake), previous, speed, DT, CAR, LimitsConfig())
    assert -1.0 <= sent.steering <= 1.0
    assert 0.0 <= sent.throttle <= 1.0
    assert 0.0 <= sent.brake <= 1.0
    assert not (sent.throttle > 0.0 and sent.brake > 0.0)
    assert abs(curved_accel(sent.steering, speed)) <= LATERAL_ACCEL + 1e-6
    before = curved_accel(previous, speed)
    if abs(before) <= LATERAL_ACCEL:
        assert abs(sent.steering - previous) <= STEER_STEP + 1e-9
        assert abs(curved_accel(sent.steering, speed) - before) <= LATERAL_JERK * DT + 1e-6


@settings(max_examples=200, deadline=None)
@given(modest, modest, modest, st.floats(-1, 1), st.floats(0, 40))
def test_what_was_allowed_once_is_allowed_again(steering, throttle, brake, previous, speed):
    once, _ = limit(Actuation(steering, throttle, brake), previous, speed, DT, CAR, LimitsConfig())
    twice, met = limit(once, previous, speed, DT, CAR, LimitsConfig())
    assert met == ()
    assert twice.as_array() == pytest.approx(once.as_array(), abs=1e-6)


@settings(max_examples=200, deadline=None)
@given(modest, st.floats(-1, 1), st.floats(0, 40))
def test_limits_do_not_prefer_a_side(steering, previous, speed):
    left, _ = limit(Actuation(steering, 0.2, 0.0), previous, speed, DT, CAR, LimitsConfig())
    right, _ = limit(Actuation(-steering, 0.2, 0.0), -previous, speed, DT, CAR, LimitsConfig())
    assert left.steering == pytest.approx(-right.steering, abs=1e-9)
    assert left.throttle == right.throttle


@settings(max_examples=100, deadline=None)
@given(st.floats(-0.2, 0.2), st.floats(0, 0.6), st.floats(0, 3))
def test_a_gentle_act_passes_untouched(steering, throttle, speed):
    wish = Actuation(steering, throttle, 0.0)
    sent, met = limit(wish, 0.0, speed, DT, CAR, LimitsConfig())
    assert met == ()
    assert sent == wish


@pytest.mark.parametrize(
    ("wish", "name"),
    [
        (Actuation(0.0, 1.4, 0.0), "range"),
        (Actuation(0.0, -0.2, 0.0), "range"),
        (Actuation(0.0, 0.0, 2.0), "range"),
        (Actuation(0.0, 0.5, 0.5), "throttle and brake"),
        (Actuation(0.9, 0.0, 0.0), "steering rate"),
    ],
)
def test_the_limit_that_was_met_is_named(wish, name):
    _, met = limit(wish, 0.0, 1.0, DT, CAR, LimitsConfig())
    assert met == (name,)


def test_a_curve_too_fast_is_opened_and_throttle_cut():
    sent, met = limit(Actuation(0.3, 0.8, 0.0), 0.28, 12.0, DT, CAR, LimitsConfig())
    assert "lateral acceleration" in met
    assert sent.throttle == 0.0
    assert curved_accel(sent.steering, 12.0) == pytest.approx(LATERAL_ACCEL, abs=1e-6)


@pytest.mark.parametrize(("wish", "least"), [(0.12, 0.3), (0.3, 0.99)])
def test_a_curve_too_fast_is_braked_for_the_harder_the_sharper(wish, least):
    """Opened and not slowed down for, it leads off the road."""
    sent, met = limit(Actuation(wish, 0.0, 0.1), 0.0, 12.6, DT, CAR, LimitsConfig())
    assert "lateral acceleration" in met
    assert sent.brake >= least
    within, _ = limit(Actuation(0.05, 0.0, 0.1), 0.05, 12.6, DT, CAR, LimitsConfig())
    assert within.brake == 0.1


def test_brake_wins_over_throttle():
    sent, _ = limit(Actuation(0.0, 1.0, 0.2), 0.0, 5.0, DT, CAR, LimitsConfig())
    assert (sent.throttle, sent.brake) == (0.0, 0.2)


def test_rounding_is_no_clipping():
    _, met = limit(Actuation(0.0, 1.0000001, 0.0), 0.0, 5.0, DT, CAR, LimitsConfig())
    assert met == ()


@given(st.floats(-8, 8), st.floats(0.5, 40))
def test_steering_and_lateral_acceleration_are_inverse(accel, speed):
    steering = steering_for(accel, speed, CAR)
    if abs(steering) < 1.0:
        assert lateral_accel_of(steering, speed, CAR) == pytest.approx(accel, abs=1e-6)


def test_a_standing_car_may_steer_fully():
    assert steering_for(3.0, 0.0, CAR) == 1.0
    assert steering_for(-3.0, 0.0, CAR) == -1.0


# --------------------------------------------------------------------------- insane input


@settings(max_examples=150, deadline=None)
@given(st.lists(numbers, min_size=12, max_size=12), st.floats(0, 30))
def test_any_act_whatever_gives_a_finite_actuation_in_range(values, speed):
    actuation, verdict = guard().check(Act(np.array(values).reshape(4, 3)), empty_road(speed))
    sent = actuation.as_array()
    assert np.isfinite(sent).all()
    assert (sent >= np.array([-1, 0, 0])).all()
    assert (sent <= 1).all()
    assert not (sent[1] > 0 and sent[2] > 0)
    if not np.isfinite(values).all():
        assert verdict.kind == VerdictKind.REPLACED
        assert sent[1] == 0.0
        assert sent[2] >= COMFORTABLE - 1e-6


@pytest.mark.parametrize("place", [(0, 0), (0, 2), (3, 1)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_bad_number_anywhere_in_the_chunk_stops_the_car(place, value):
    act = chunk(throttle=0.5)
    act.steps[place] = value
    actuation, verdict = guard().check(act, empty_road())
    assert verdict.kind == VerdictKind.REPLACED
    assert verdict.why == "the act is not finite"
    assert (actuation.throttle, actuation.brake) == (0.0, COMFORTABLE)


@pytest.mark.parametrize("field", range(7))
def test_an_ego_that_measures_nonsense_stops_the_car(field):
    seen = empty_road()
    seen.ego[field] = np.nan
    actuation, verdict = guard().check(chunk(throttle=0.5), seen)
    assert verdict.kind == VerdictKind.REPLACED
    assert "not finite" in verdict.why
    assert (actuation.throttle, actuation.brake) == (0.0, COMFORTABLE)


def test_a_clock_that_is_not_a_number_stops_the_car():
    _, verdict = guard().check(chunk(), replace(empty_road(), time_s=np.nan))
    assert verdict.kind == VerdictKind.REPLACED


def test_the_steering_last_sent_is_held_when_the_act_is_lost():
    one, world = guard(), World([Box(-30.0, 10.0)], 3.0)
    sent, _ = one.check(chunk(steering=0.2), world.observe())
    world.step(sent.as_array())
    held, _ = one.check(chunk(steering=np.nan), world.observe())
    assert held.steering == pytest.approx(sent.steering)


def test_a_brake_that_is_needed_beats_the_comfortable_stop():
    one, world = guard(), World([Box(12.0, 0.0)], 9.0)
    for _ in range(3):
        actuation, verdict = one.check(chunk(steering=np.nan), world.observe())
        world.step(actuation.as_array())
    assert verdict.why == "the act is not finite"
    assert actuation.brake == 1.0


# --------------------------------------------------------------------------- stale and dead sensors


def test_an_observation_that_is_not_newer_stops_the_car_until_a_newer_one_comes():
    one, world = guard(), World([Box(-30.0, 10.0)], 8.0)
    seen = world.observe()
    assert one.check(chunk(throttle=0.1), seen)[1].kind == VerdictKind.ACCEPTED
    for _ in range(3):
        actuation, verdict = one.check(chunk(throttle=0.1), seen)
        assert verdict.kind == VerdictKind.REPLACED
        assert "not newer" in verdict.why
        assert actuation.brake == COMFORTABLE
    world.step(np.zeros(3))
    assert one.check(chunk(throttle=0.1), world.observe())[1].kind == VerdictKind.ACCEPTED


def test_an_old_observation_stops_the_car():
    seen = replace(empty_road(), time_s=10.0)
    assert guard().check(chunk(), seen, now_s=10.4)[1].kind == VerdictKind.ACCEPTED
    verdict = guard().check(chunk(), seen, now_s=10.6)[1]
    assert verdict.kind == VerdictKind.REPLACED
    assert "older than 0.5 s" in verdict.why
    assert guard().check(chunk(), seen, now_s=np.nan)[1].kind == VerdictKind.REPLACED


def frames(world, count, change=lambda seen: seen, one=None):
    """Return the verdicts of `count` decisions of a car that holds its speed."""
    one, verdicts = one or guard(), []
    for _ in range(count):
        actuation, verdict = one.check(hold(8.0, world), change(world.observe()))
        verdicts.append(verdict)
        world.step(actuation.as_array())
    return verdicts


@pytest.mark.parametrize("sensor", ["lidar", "radar", "wide"])
def test_a_frozen_sensor_stops_the_car(sensor):
    world = World([Box(-30.0, 10.0), Box(60.0, 12.0)], 8.0)
    rng, first = np.random.default_rng(0), world.observe()

    def freeze(seen):
        picture = rng.integers(0, 255, (4, 8, 3), dtype=np.uint8)
        seen = replace(seen, cameras={"wide": np.zeros((4, 8, 3), np.uint8) if sensor == "wide" else picture})
        return seen if sensor == "wide" else replace(seen, **{sensor: getattr(first, sensor)})

    verdicts = frames(world, 8, freeze)
    assert [v.kind for v in verdicts[:3]] == [VerdictKind.ACCEPTED] * 3
    assert verdicts[3].kind == VerdictKind.REPLACED
    assert verdicts[3].why == f"{sensor} is frozen"


def test_a_standing_car_may_see_the_same_picture_twice():
    world, picture = World([Box(-30.0, 10.0)], 0.0), np.zeros((4, 8, 3), np.uint8)
    one = guard()
    for _ in range(10):
        _, verdict = one.check(chunk(), replace(world.observe(), cameras={"wide": picture}))
        assert verdict.kind == VerdictKind.ACCEPTED
        world.step(np.zeros(3))


def test_without_any_ranging_sensor_the_car_stops_after_a_moment():
    verdicts = frames(World([], 8.0), 6, lambda s: replace(s, lidar=None, radar=None, radar_valid=None))
    assert verdicts[0].kind == VerdictKind.ACCEPTED
    assert verdicts[-1].kind == VerdictKind.REPLACED
    assert "no ranging sensor" in verdicts[-1].why


@pytest.mark.parametrize("gone", ["lidar", "radar"])
def test_one_lost_ranging_sensor_is_survived(gone):
    lost = {"lidar": None} if gone == "lidar" else {"radar": None, "radar_valid": None}
    verdicts = frames(World([Box(-30.0, 10.0)], 8.0), 10, lambda s: replace(s, **lost))
    assert all(v.kind == VerdictKind.ACCEPTED for v in verdicts)


def test_a_lidar_that_hears_nothing_counts_as_lost():
    def deaf(seen):
        return replace(seen, lidar=np.zeros_like(seen.lidar), radar=None, radar_valid=None)

    assert frames(World([], 8.0), 6, deaf)[-1].kind == VerdictKind.REPLACED


def test_a_rig_without_ranging_sensors_is_only_limited():
    camera = CameraConfig(name="wide", width=8, height=4, fov_deg=90.0)
    blind = replace(RIG, cameras=(camera,), lidar=None, radar=None)
    one, world = Guard(GuardConfig(), blind, CAR), World([Box(12.0, 0.0)], 8.0)
    rng = np.random.default_rng(0)

    def seen(s):
        picture = rng.integers(0, 256, (4, 8, 3), dtype=np.uint8)
        return replace(s, cameras={"wide": picture}, lidar=None, radar=None, radar_valid=None)

    assert all(v.kind == VerdictKind.ACCEPTED for v in frames(world, 8, seen, one))


def test_a_car_that_has_lost_all_its_cameras_stops():
    camera = CameraConfig(name="wide", width=8, height=4, fov_deg=90.0)
    world, one = World([], 8.0), Guard(GuardConfig(), replace(RIG, cameras=(camera,)), CAR)
    verdicts = frames(world, 30, lambda s: s, one)
    assert verdicts[-1].kind == VerdictKind.REPLACED and verdicts[-1].why == "no camera answers"
    assert world.ego.speed < 0.1


def test_nan_in_ranging_readings_is_no_obstacle_and_no_crash():
    def spoil(seen):
        seen.lidar[:, ::3] = np.nan
        seen.radar[:, 0] = np.nan
        return seen

    assert all(v.kind == VerdictKind.ACCEPTED for v in frames(World([Box(-30.0, 10.0)], 8.0), 6, spoil))


def test_a_new_episode_starts_afresh():
    one, world = guard(), World([Box(12.0, 0.0)], 8.0)
    frames(world, 4, one=one)
    one.reset()
    assert one.check(chunk(throttle=0.1), empty_road())[1].kind == VerdictKind.ACCEPTED


def test_the_guard_is_deterministic():
    def run():
        world, one, sent = World([Box(40.0, 0.3), Box(25.0, 3.3, np.pi, speed=6.0)], 10.0), guard(), []
        for _ in range(25):
            actuation, verdict = one.check(hold(10.0, world), world.observe())
            sent.append((actuation, verdict))
            world.step(actuation.as_array())
        return sent

    assert run() == run()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 15))
def test_the_guard_never_adds_throttle_or_takes_brake_away(seed, speed):
    rng = np.random.default_rng(seed)
    boxes = [Box(*rng.uniform((-20, -8), (40, 8)), yaw=rng.uniform(0, 6), speed=rng.uniform(0, 8)) for _ in range(5)]
    world, one = World(boxes, speed, seed), guard()
    for _ in range(6):
        wish = Act(rng.uniform((-1, 0, 0), (1, 1, 1), (4, 3)))
        if rng.random() < 0.5:
            wish.steps[:, 1 + int(rng.integers(2))] = 0.0
        actuation, verdict = one.check(wish, world.observe())
        assert actuation.throttle <= wish.steps[0, 1] + 1e-6
        assert actuation.brake >= wish.steps[0, 2] - 1e-6
        if verdict.kind == VerdictKind.ACCEPTED:
            assert actuation.as_array() == pytest.approx(wish.steps[0], abs=2e-3)
        else:
            assert verdict.why
        world.step(actuation.as_array())


class Heartbeat(RuleBasedStateMachine):
    """Sensors and acts come and go: the car always stops on a loss, and always may go again after it."""

    @initialize()
    def begin(self):
        self.world, self.guard = World([Box(-30.0, 10.0), Box(70.0, 30.0)], 6.0), guard()
        self.blind = 0
        self.last = None

    def decide(self, act, **changes):
        self.seen_at = self.world.time_s
        actuation, self.last = self.guard.check(act, replace(self.world.observe(), **changes))
        assert np.isfinite(actuation.as_array()).all()
        self.world.step(actuation.as_array())
        return actuation

    @rule()
    def healthy(self):
        self.blind = 0
        self.decide(hold(6.0, self.world))
        assert self.last.kind == VerdictKind.ACCEPTED

    @rule()
    def act_lost(self):
        self.blind = 0
        assert self.decide(chunk(throttle=np.nan)).brake >= COMFORTABLE

    @rule()
    def clock_stuck(self):
        if self.last is not None:
            self.world.time_s = self.seen_at
            assert self.decide(chunk(throttle=0.3)).brake >= COMFORTABLE

    @rule()
    def sensors_lost(self):
        self.blind += 1
        self.decide(hold(6.0, self.world), lidar=None, radar=None, radar_valid=None)
        if self.blind > 4:
            assert self.last.kind == VerdictKind.REPLACED

    @precondition(lambda self: self.world.boxes)
    @invariant()
    def every_stop_says_why(self):
        assert self.last is None or self.last.kind == VerdictKind.ACCEPTED or self.last.why


Heartbeat.TestCase.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
TestHeartbeat = Heartbeat.TestCase
