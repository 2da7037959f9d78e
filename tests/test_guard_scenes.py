"""The guard against a driver who sees nothing: what must be braked for, what must not, and that it ends again."""

import time
from dataclasses import replace

import numpy as np
import pytest
from guard_world import CAR, DT, FRONT, LIDAR, RADAR, RIG, Box, World, hold, ride, walker

from drivebyword.core.records import Act, VerdictKind
from drivebyword.guard.collision import roll_out
from drivebyword.guard.guard import Guard, GuardConfig
from drivebyword.guard.tracking import Scan, Tracker, TrackingConfig, cluster, lidar_points, radar_points

SENSORS = pytest.mark.parametrize("without", [(), ("radar",), ("lidar",)], ids=["both", "no radar", "no lidar"])
SPEEDS = pytest.mark.parametrize("speed", [4.0, 8.0, 12.0, 16.0])
TOWN_SPEEDS = pytest.mark.parametrize("speed", [4.0, 8.0])


# --------------------------------------------------------------------------- must stop


@SENSORS
@SPEEDS
def test_a_parked_car_in_the_lane_is_never_hit(speed, without):
    done = ride([Box(60.0, 0.0)], speed, 10, without=without)
    assert done.impact == 0.0
    assert done.gap > 0.3


@SENSORS
@SPEEDS
def test_a_car_parked_half_in_the_lane_is_never_hit(speed, without):
    assert ride([Box(60.0, 1.2)], speed, 10, without=without).impact == 0.0


@SENSORS
@SPEEDS
def test_a_leader_who_brakes_hard_is_never_hit(speed, without):
    gap = speed * (1.2 if "radar" not in without else 1.5) + 1.0
    assert ride([Box(FRONT + 2.25 + gap, 0.0, speed=speed, brakes_at=1.0)], speed, 8, without=without).impact == 0.0


@SENSORS
@TOWN_SPEEDS
@pytest.mark.parametrize("pace", [1.4, 2.2])
@pytest.mark.parametrize("side", [1, -1])
def test_a_person_who_crosses_is_never_hit_in_town(speed, pace, side, without):
    person = walker(FRONT + speed * 3, side * pace * 3, pace, -side * np.pi / 2)
    assert ride([person], speed, 7, without=without).impact == 0.0


@TOWN_SPEEDS
def test_a_person_who_starts_to_cross_from_the_kerb_is_never_hit(speed):
    assert ride([walker(FRONT + speed * 3, 2.8, 1.6, starts=1.5)], speed, 7).impact == 0.0


@pytest.mark.parametrize("speed", [12.0, 16.0])
@pytest.mark.parametrize("pace", [1.4, 2.2])
def test_a_person_who_crosses_is_never_hit_at_speed_with_both_sensors(speed, pace):
    assert ride([walker(FRONT + speed * 3, pace * 3, pace)], speed, 7).impact == 0.0


@SENSORS
@SPEEDS
def test_a_car_that_crosses_is_never_hit(speed, without):
    crossing = Box(FRONT + speed * 3, 24.0, -np.pi / 2, speed=8.0)
    assert ride([crossing], speed, 7, without=without).impact == 0.0


@SENSORS
def test_full_throttle_into_a_queue_ends_behind_it(without):
    done = ride([Box(45.0, 0.2), Box(52.0, 0.0)], 5.0, 12, full_throttle=True, without=without)
    assert done.impact == 0.0
    assert done.gap > 0.2
    assert done.world.ego.speed < 0.5


@pytest.mark.parametrize("seed", range(8))
def test_a_car_in_a_bend_is_braked_for_along_the_bend(seed):
    radius = CAR.wheelbase / np.tan(0.15 * CAR.steer_max)
    angle = 22.0 / radius
    parked = Box(radius * np.sin(angle), radius * (1 - np.cos(angle)), angle)
    assert ride([parked], 7.0, 6, steering=0.15, seed=seed).impact == 0.0


def test_throttle_is_cut_before_the_brake_is_needed():
    kinds = [v.kind for v in ride([Box(60.0, 0.0)], 12.0, 8).verdicts]
    first_clip, first_brake = kinds.index(VerdictKind.CLIPPED), kinds.index(VerdictKind.REPLACED)
    assert first_clip < first_brake
    assert all(k == VerdictKind.ACCEPTED for k in kinds[:first_clip])


def test_the_verdict_says_what_is_in_the_way():
    why = next(v.why for v in ride([Box(40.0, 0.0)], 10.0, 6).verdicts if v.kind == VerdictKind.REPLACED)
    assert why.startswith("obstacle ")
    assert "m ahead" in why


# --------------------------------------------------------------------------- must not stop


NUISANCES = {
    "oncoming cars in the next lane": lambda: [Box(80 + 30 * k, 3.3, np.pi, speed=12.0) for k in range(3)],
    "a row of parked cars": lambda: [Box(10 + 7 * k, -2.8) for k in range(12)],
    "lamp posts at the kerb": lambda: [Box(10 + 7 * k, -2.0, 0.0, 0.2, 0.2, 5.0) for k in range(12)],
    "people on the pavement": lambda: [walker(10 + 9 * k, -3.0, 1.4, 0.0) for k in range(12)],
    "people who wait at the kerb": lambda: [walker(10 + 9 * k, -2.4, 0.0) for k in range(12)],
    "a wall along the road": lambda: [Box(40.0, -6.0, 0.0, 120.0, 1.0, 8.0)],
    "a gantry over the road": lambda: [],
}


@pytest.mark.parametrize("what", NUISANCES)
@SPEEDS
def test_what_is_not_in_the_way_is_not_braked_for(what, speed):
    done = ride(NUISANCES[what](), speed, 6)
    assert done.count(VerdictKind.REPLACED) == 0


@pytest.mark.parametrize("without", [(), ("lidar",)], ids=["both", "no lidar"])
@SPEEDS
def test_a_leader_at_a_second_of_distance_may_be_followed(speed, without):
    leader = Box(FRONT + 2.25 + speed + 2.5, 0.0, speed=speed)
    assert ride([leader], speed, 8, without=without).count(VerdictKind.REPLACED) == 0


def test_cars_across_a_turn_are_not_braked_for():
    waiting = [Box(14.0, -1.0, np.pi), Box(14.0, -5.0, np.pi)]
    assert ride(waiting, 4.0, 3, steering=0.5).count(VerdictKind.REPLACED) == 0
    assert ride([Box(9.0, 5.3, np.pi)], 4.0, 3, steering=-0.5).count(VerdictKind.REPLACED) == 0


def test_a_car_that_overtakes_is_not_braked_for():
    assert ride([Box(-20.0, 3.3, 0.0, speed=14.0)], 8.0, 6).count(VerdictKind.REPLACED) == 0


def test_a_bend_past_parked_cars_is_not_braked_for():
    radius = CAR.wheelbase / np.tan(0.15 * CAR.steer_max)
    beside = []
    for k in range(1, 6):
        angle = 7.0 * k / radius
        beside.append(Box((radius + 3.7) * np.sin(angle), radius - (radius + 3.7) * np.cos(angle), angle))
    assert ride(beside, 6.0, 5, steering=0.15).count(VerdictKind.REPLACED) == 0


def test_droplets_of_fog_are_not_braked_for():
    world, guard, rng = World([Box(-30.0, 10.0)], 10.0), Guard(GuardConfig(), RIG, CAR), np.random.default_rng(0)
    for _ in range(40):
        seen = world.observe()
        wet = rng.random(seen.lidar.shape[:2]) < 0.03
        seen.lidar[wet, 0] = rng.uniform(2.0, 10.0, wet.sum())
        actuation, verdict = guard.check(hold(10.0, world), seen)
        assert verdict.kind == VerdictKind.ACCEPTED
        world.step(actuation.as_array())


@pytest.mark.parametrize("without", [(), ("lidar",)], ids=["both", "no lidar"])
def test_radar_ghosts_of_one_frame_are_not_braked_for(without):
    world, guard, rng = World([Box(-30.0, 10.0)], 10.0), Guard(GuardConfig(), RIG, CAR), np.random.default_rng(1)
    for k in range(60):
        seen = world.observe(without)
        if k % 5 == 0:
            seen.radar[0], seen.radar_valid[0] = (rng.uniform(4, 40), rng.uniform(-0.3, 0.3), -20.0, -8.0), True
        actuation, verdict = guard.check(hold(10.0, world), seen)
        assert verdict.kind != VerdictKind.REPLACED
        world.step(actuation.as_array())


def test_a_ghost_beside_a_parked_car_does_not_set_it_moving():
    world, guard = World([Box(10 + 7 * k, -2.8) for k in range(12)], 8.0), Guard(GuardConfig(), RIG, CAR)
    for k in range(25):
        seen = world.observe()
        if k % 3 == 0 and seen.radar_valid[1]:
            seen.radar[1, 2] *= 2.0
        actuation, verdict = guard.check(hold(8.0, world), seen)
        assert verdict.kind != VerdictKind.REPLACED
        world.step(actuation.as_array())


# --------------------------------------------------------------------------- and go on again


def test_the_car_goes_on_when_the_person_has_passed():
    done = ride([walker(FRONT + 24.0, 4.2, 1.4)], 8.0, 10)
    assert done.impact == 0.0
    assert done.world.ego.speed > 7.0


def test_the_car_goes_on_when_the_leader_drives_off():
    leader = Box(FRONT + 2.25 + 3.0, 0.0, speed=6.0, starts=3.0)
    done = ride([leader], 4.0, 10)
    assert done.impact == 0.0
    assert done.world.ego.speed > 3.0


def test_a_car_that_stands_with_room_ahead_may_creep_up():
    world, guard = World([Box(FRONT + 2.25 + 4.0, 0.0)], 0.0), Guard(GuardConfig(), RIG, CAR)
    for _ in range(60):
        actuation, _ = guard.check(Act(np.tile([0.0, 0.3, 0.0], (4, 1))), world.observe())
        world.step(actuation.as_array())
    assert 0.3 < world.gap() < 1.6
    assert world.ego.speed < 0.3


def test_a_person_beside_a_standing_car_does_not_hold_it():
    world, guard = World([walker(2.0, 1.3, 0.0), walker(5.0, -1.5, 0.0)], 0.0), Guard(GuardConfig(), RIG, CAR)
    for _ in range(20):
        actuation, _ = guard.check(hold(4.0, world), world.observe())
        world.step(actuation.as_array())
    assert world.ego.speed > 2.0


@pytest.mark.parametrize("seed", range(4))
def test_random_traffic_never_holds_the_car_for_ever(seed):
    rng = np.random.default_rng(seed)
    boxes = [Box(rng.uniform(20, 90), rng.choice([3.3, -3.2]), rng.choice([0.0, np.pi]), speed=5.0) for _ in range(4)]
    boxes += [walker(rng.uniform(15, 60), rng.choice([-4.5, 4.5]), 1.2, rng.choice([0.0, np.pi])) for _ in range(4)]
    done = ride(boxes, 7.0, 20, seed=seed)
    assert done.impact == 0.0
    assert done.world.ego.x > 60.0


# --------------------------------------------------------------------------- parts


def test_lidar_points_are_bodies_where_they_stand_and_never_the_road():
    settings = TrackingConfig()
    empty = lidar_points(World([], 0.0).lidar(), LIDAR, settings)
    assert len(empty) == 0
    points = lidar_points(World([Box(20.0, 0.0)], 0.0).lidar(), LIDAR, settings)
    assert np.abs(points[:, 0] - 17.75).max() < 0.2
    assert np.abs(points[:, 1]).max() < 1.0
    left = lidar_points(World([Box(0.0, 12.0)], 0.0).lidar(), LIDAR, settings)
    assert left[:, 1].min() > 10.0


def test_what_hangs_above_the_roof_is_no_body():
    lidar = np.zeros((LIDAR.beams, LIDAR.columns, 2), np.float32)
    lidar[-1, 60:68, 0] = 30.0  # the highest beam looks 4 degrees up: 3.9 m at 30 m
    assert len(lidar_points(lidar, LIDAR, TrackingConfig())) == 0


def test_radar_gives_speed_over_ground():
    for box_speed in (0.0, 5.0):
        world = World([Box(30.0, 0.0, speed=box_speed)], 9.0)
        table, valid = world.radar()
        points = radar_points(table[valid], RADAR, 9.0, 0.0, 45.0)
        assert np.median(points[:, 4]) == pytest.approx(box_speed, abs=0.2)
        assert points[:, 0].min() == pytest.approx(27.75, abs=0.5)


def test_bodies_are_split_where_they_are_apart():
    row = np.stack([np.full(10, 20.0), np.r_[np.arange(5, 0, -1) + 4.0, np.arange(5, 0, -1) - 4.0]], axis=1)
    assert cluster(row).tolist() == [0] * 5 + [1] * 5
    assert len(cluster(np.zeros((0, 2)))) == 0


def tracked(box, speed, frames=8, yaw_rate=0.0, without=()):
    """Return the tracks after some frames, seen from a car that drives straight or turns."""
    world, tracker = World([box], speed), Tracker(TrackingConfig())
    world.ego.yaw_rate = yaw_rate
    for _ in range(frames):
        table, valid = world.radar()
        echoes = radar_points(table[valid], RADAR, speed, yaw_rate, 45.0)
        echoes = echoes[:0] if "radar" in without else echoes
        tracker.update(lidar_points(world.lidar(), LIDAR, TrackingConfig()), echoes, (speed, yaw_rate), DT)
        before = world.ego
        world.step(np.zeros(3))
        turn = yaw_rate * DT
        world.ego = replace(
            before,
            x=before.x + speed * DT * np.cos(before.yaw + turn / 2),
            y=before.y + speed * DT * np.sin(before.yaw + turn / 2),
            yaw=before.yaw + turn,
        )
    return tracker.tracks


@pytest.mark.parametrize("without", [(), ("radar",)])
@pytest.mark.parametrize("speed", [0.0, 8.0])
def test_velocities_are_found(speed, without):
    for box, expected in (
        (Box(28.0, 0.0, speed=6.0), (6.0, 0.0)),
        (Box(45.0, 3.3, np.pi, speed=8.0), (-8.0, 0.0)),
        (Box(32.0, 14.0, -np.pi / 2, speed=6.0), (0.0, -6.0)),
        (Box(30.0, -2.6), (0.0, 0.0)),
    ):
        found = min(tracked(box, speed, without=without)["velocity"], key=lambda v: np.abs(v - expected).max())
        assert found == pytest.approx(expected, abs=1.0)


def test_what_stands_does_not_seem_to_move_in_a_turn():
    for box in (Box(14.0, 6.0, 0.4), Box(14.0, 0.0, 1.2), Box(10.0, 9.0, 0.0, 0.3, 0.3, 4.0)):
        found = tracked(box, 5.0, frames=7, yaw_rate=0.5)["velocity"]
        assert len(found) > 0
        assert np.hypot(*found.T).max() < 1.5


def test_an_obstacle_out_of_sight_is_remembered_for_a_moment():
    tracker = Tracker(TrackingConfig())
    body, nothing = np.array([[10.0, 0.5], [10.0, 0.0]]), np.zeros((0, 5))
    for _ in range(3):
        tracker.update(body, nothing, (0.0, 0.0), DT)
    for left in (1, 1, 1, 0):
        tracker.update(body[:0], nothing, (0.0, 0.0), DT)
        assert len(tracker.tracks) == left


def test_a_place_looked_through_was_free():
    scan = Scan(np.stack([np.full(41, 20.0), np.linspace(10, -10, 41)], axis=1))
    assert scan.free(np.array([[10.0, 0.0], [20.0, 0.0], [25.0, 0.5]])).tolist() == [True, False, False]


def test_the_rollout_brakes_like_the_car():
    act = np.tile([0.0, 0.0, 0.0], (4, 1))
    way = roll_out(10.0, 0.0, act, 6.5, DT, CAR)
    assert way[-1, 4] == 0.0
    # One period of delay, a tenth of lag, then v^2 / 2a.
    assert way[-1, 1] == pytest.approx(10.0 * 0.3 + 100.0 / 13.0, abs=0.6)
    assert (np.diff(way[:, 4]) <= 1e-9).all()


def test_the_rollout_turns_like_the_car():
    act = np.tile([0.3, 0.03, 0.0], (4, 1))
    way = roll_out(4.0, 0.3, act, 0.5, DT, CAR)
    radius = CAR.wheelbase / np.tan(0.3 * CAR.steer_max)
    assert np.hypot(way[:, 1], way[:, 2] - radius) == pytest.approx(np.full(len(way), radius), abs=0.05)


def test_a_check_takes_a_small_part_of_the_period():
    boxes = [Box(10 + 7 * k, -2.8) for k in range(12)] + [Box(20 + 30 * k, 3.3, np.pi, speed=12.0) for k in range(3)]
    world, guard = World(boxes, 8.0), Guard(GuardConfig(), RIG, CAR)
    seen = []
    for _ in range(20):
        seen.append(world.observe())
        world.step(np.array([0.0, 0.03, 0.0]))
    begun = time.process_time()
    for observation in seen:
        guard.check(hold(8.0, world), observation)
    assert (time.process_time() - begun) / len(seen) < 0.02
