import numpy as np
import pytest
from calm_drive import calm_drive, decision, events, told
from hypothesis import given, settings
from hypothesis import strategies as st

from drivebyword import metrics
from drivebyword.core.edge import EdgeRecord
from drivebyword.core.records import DECISIONS, Event
from drivebyword.metrics import compliance, reason_act_agreement, reward, running_score, score, worst_score

FAILING = [
    Event.COLLISION_PERSON, Event.COLLISION_VEHICLE, Event.COLLISION_STATIC, Event.OFFROAD, Event.RED_LIGHT,
    Event.STOP_LINE, Event.WRONG_WAY, Event.TIMEOUT, Event.WRONG_BRANCH,
]  # fmt: skip


def test_a_calm_drive_scores_full_marks_everywhere():
    values = score(calm_drive())
    assert values["success"] == 1.0
    assert values["driving_score"] == pytest.approx(100.0)
    assert all(values[name] == 0.0 for name in metrics.EVENT_METRICS)
    assert values["comfort"] == values["ttc"] == values["lane_keeping"] == values["comfort_steps"] == 1.0
    assert values["compliance_k"] == values["compliance_n"] == 1.0
    assert values["reason_act_agreement_k"] == values["reason_act_agreement_n"] == 100.0
    assert values["distance_m"] == pytest.approx(160.0)


@pytest.mark.parametrize("flag", FAILING)
def test_any_failure_event_makes_the_drive_unsuccessful(flag):
    assert score(calm_drive(events=events(flag, 50)))["success"] == 0.0


@pytest.mark.parametrize("ended", ["collision", "offroad", "wrong_branch", "timeout", "crashed", "aborted"])
def test_only_arriving_is_success(ended):
    assert score(calm_drive(ended=ended))["success"] == 0.0


def edge(**changes):
    return EdgeRecord(**{"family": "door_opens", "twin": False, "preventable": True, "began_s": 2.0} | changes)


def test_handled_is_no_harm_a_good_end_and_what_the_family_asks():
    def handled(edge_record, **changes):
        values = score(calm_drive(edge=edge_record, **changes))
        return values.get("handled_k"), values.get("handled_n")

    assert handled(edge()) == (1.0, 1.0) and handled(edge(), ended="stopped") == (1.0, 1.0)
    assert handled(edge(), ended="timeout") == (0.0, 1.0)
    assert handled(edge(breach="0.2 m of air where 0.3 are asked")) == (0.0, 1.0)
    assert handled(edge(), events=events(Event.OFFROAD, 5)) == (0.0, 1.0)
    assert handled(edge(preventable=False)) == (0.0, 0.0) == handled(edge(began_s=None))
    assert handled(edge(twin=True)) == (None, None) == handled(None)


def test_standing_where_nobody_can_go_on_is_success_and_leaves_what_was_told_open():
    values = score(calm_drive(ended="stopped", instructions=[told("left", "pending")]))
    assert values["success"] == 1.0 and values["compliance_n"] == 0.0


def test_a_missed_branch_is_no_success_but_a_missed_slower_is():
    assert score(calm_drive(instructions=[told("left", "missed")]))["success"] == 0.0
    assert score(calm_drive(instructions=[told("slower", "missed")]))["success"] == 1.0


@pytest.mark.parametrize(
    ("flag", "factor"),
    [
        (Event.COLLISION_PERSON, 0.50),
        (Event.COLLISION_VEHICLE, 0.60),
        (Event.COLLISION_STATIC, 0.65),
        (Event.RED_LIGHT, 0.70),
        (Event.STOP_LINE, 0.80),
        (Event.WRONG_WAY, 1.0),
    ],
)
def test_penalties_are_those_of_the_carla_leaderboard(flag, factor):
    assert score(calm_drive(events=events(flag, 50)))["driving_score"] == pytest.approx(100 * factor, abs=1e-4)


def test_one_event_that_lasts_counts_once_and_two_count_twice():
    lasting = calm_drive(events=events(Event.RED_LIGHT, 40, lasting=10))
    twice = calm_drive(events=events(Event.RED_LIGHT, 40) + events(Event.RED_LIGHT, 60))
    assert score(lasting)["driving_score"] == pytest.approx(70.0, abs=1e-4)
    assert score(twice)["driving_score"] == pytest.approx(49.0, abs=1e-4)


def test_the_share_of_the_way_driven_off_the_road_is_lost():
    assert score(calm_drive(events=events(Event.OFFROAD, 50, lasting=25)))["driving_score"] == pytest.approx(75.0)


def test_half_a_route_is_half_the_score_and_going_back_loses_nothing():
    half = np.concatenate([np.linspace(0, 0.5, 50), np.linspace(0.5, 0.3, 50)]).astype(np.float32)
    assert score(calm_drive(route_completion=half))["driving_score"] == pytest.approx(50.0)


def test_only_collisions_with_others_at_fault_count_as_at_fault():
    fault = int(Event.AT_FAULT)

    def at_fault(flags):
        return score(calm_drive(events=events(flags, 50)))["collision_at_fault"]

    assert at_fault(int(Event.COLLISION_PERSON) | fault) == 1.0
    assert at_fault(int(Event.COLLISION_VEHICLE) | fault) == 1.0
    assert at_fault(int(Event.COLLISION_VEHICLE)) == 0.0
    assert at_fault(int(Event.COLLISION_STATIC) | fault) == 0.0


def test_a_timeout_counts_however_it_was_noted():
    assert score(calm_drive(ended="timeout"))["timeout"] == 1.0
    assert score(calm_drive(events=events(Event.TIMEOUT, 99)))["timeout"] == 1.0


# --------------------------------------------------------------------------- manners


@pytest.mark.parametrize(("column", "value"), [(2, -4.5), (2, 2.7), (3, 5.2), (3, -5.2), (1, 1.0), (1, -1.0)])
def test_comfort_bounds_are_those_of_nuplan(column, value):
    motion = calm_drive().motion.copy()
    motion[:, column] = value
    assert score(calm_drive(motion=motion))["comfort"] == 0.0
    motion[:, column] = value * 0.85
    assert score(calm_drive(motion=motion))["comfort"] == 1.0


def test_jerk_and_yaw_acceleration_are_uncomfortable():
    for column, step in ((2, 2.3), (1, 0.9)):
        motion = calm_drive().motion.copy()
        motion[50:, column] = step
        motion[:50, column] = -step
        values = score(calm_drive(motion=motion))
        assert values["comfort"] == 0.0
        assert 0.9 < values["comfort_steps"] < 1.0


def test_time_to_collision_counts_while_moving_only():
    near = np.full(100, np.inf, np.float32)
    near[30] = 0.9
    assert score(calm_drive(time_to_collision=near))["ttc"] == 0.0
    assert score(calm_drive(time_to_collision=near, speed=0.2))["ttc"] == 1.0
    near[30] = 1.0
    assert score(calm_drive(time_to_collision=near))["ttc"] == 1.0


def test_a_lane_is_left_after_two_seconds_half_a_metre_off():
    offset = np.zeros(100, np.float32)
    offset[20:30] = -0.6
    assert score(calm_drive(lane_offset=offset))["lane_keeping"] == 1.0
    offset[20:32] = -0.6
    assert score(calm_drive(lane_offset=offset))["lane_keeping"] == 0.0
    assert score(calm_drive(lane_offset=offset, instructions=[told("lane_right")]))["lane_keeping"] == 1.0
    offset[24] = np.nan  # a junction begins anew
    assert score(calm_drive(lane_offset=offset))["lane_keeping"] == 1.0


# --------------------------------------------------------------------------- language


def test_compliance_counts_by_intent_and_at_junctions():
    orders = [told("left"), told("right", "missed"), told("slower"), told("left_second"), told("null", "missed")]
    counts = compliance(calm_drive(instructions=orders))
    assert counts["compliance"] == (3, 4)
    assert counts["junction_compliance"] == (2, 3)
    assert counts["compliance_left"] == (1, 1)
    assert counts["compliance_right"] == (0, 1)
    assert "compliance_null" not in counts


def test_what_the_road_forbids_is_not_counted_and_what_a_failure_cut_short_is_missed():
    assert compliance(calm_drive(instructions=[told("left", "unfeasible")]))["compliance"] == (0, 0)
    assert compliance(calm_drive(instructions=[told("left", "pending")]))["compliance"] == (0, 0)
    assert compliance(calm_drive(instructions=[told("left", "pending")], ended="collision"))["compliance"] == (0, 1)


def acting(steering=0.0, throttle=0.0, brake=0.0, frames=100):
    return np.tile(np.array([steering, throttle, brake], np.float32), (frames, 4, 1))


@pytest.mark.parametrize(
    ("says", "act", "speed", "agrees"),
    [
        ("go", acting(throttle=0.3), 8.0, True),
        ("go", acting(brake=0.1), 8.0, True),
        ("go", acting(brake=0.6), 8.0, False),
        ("stop", acting(brake=0.3), 8.0, True),
        ("stop", acting(), 8.0, True),
        ("stop", acting(throttle=0.3), 8.0, False),
        ("stop", acting(throttle=0.5), 0.1, False),
        ("wait", acting(brake=1.0), 0.0, True),
        ("wait", acting(throttle=0.05), 0.0, True),
        ("slow", acting(brake=0.1), 8.0, True),
        ("slow", acting(throttle=0.1), 8.0, True),
        ("slow", acting(throttle=0.6), 8.0, False),
        ("turn_left", acting(steering=0.3), 5.0, True),
        ("turn_left", acting(steering=-0.3), 5.0, False),
        ("turn_left", acting(), 5.0, False),
        ("turn_right", acting(steering=-0.3), 5.0, True),
        ("turn_right", acting(steering=0.3), 5.0, False),
        ("change_left", acting(steering=0.02), 8.0, True),
        ("change_left", acting(steering=-0.02), 8.0, False),
        ("change_right", acting(steering=-0.02), 8.0, True),
        ("change_right", acting(steering=0.02), 8.0, False),
    ],
)
def test_a_reason_agrees_with_the_act_that_does_what_it_says(says, act, speed, agrees):
    drive = calm_drive(reason=decision(says, 100), act=act, speed=speed)
    found, said = reason_act_agreement(drive)
    assert said.all()
    assert (found == agrees).all()


def test_a_turn_announced_before_the_wheel_moves_agrees():
    pose = calm_drive().pose.copy()
    pose[60:, 2] = np.pi / 2
    found, _ = reason_act_agreement(calm_drive(pose=pose, reason=decision("turn_left", 100)))
    assert found[41:60].all()
    assert not found[:39].any()
    found, _ = reason_act_agreement(calm_drive(pose=pose, reason=decision("turn_right", 100)))
    assert not found.any()


def test_steps_without_a_reason_are_not_counted():
    reason = decision("go", 100)
    reason[:40] = -1
    values = score(calm_drive(reason=reason))
    assert values["reason_act_agreement_n"] == 60.0


def test_every_decision_word_has_a_rule():
    for name in DECISIONS:
        assert score(calm_drive(reason=decision(name, 100)))["reason_act_agreement_n"] == 100.0


# --------------------------------------------------------------------------- reward


def random_drive(seed):
    rng = np.random.default_rng(seed)
    column = np.zeros(100, np.int64)
    for flag in FAILING:
        if rng.random() < 0.3:
            at = int(rng.integers(0, 95))
            column[at : at + int(rng.integers(1, 5))] |= int(flag)
    motion = calm_drive().motion.copy()
    motion[:, :4] += rng.normal(0, 1.0, (100, 4)).astype(np.float32)
    motion[:, 0] = np.abs(motion[:, 0])
    return calm_drive(
        events=column, motion=motion, route_completion=np.sort(rng.random(100)).astype(np.float32),
        instructions=[told("left", rng.choice(["fulfilled", "missed", "pending"]), resolved=int(rng.integers(100)))],
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_reward_adds_up_to_the_driving_score_less_what_manners_cost(seed):
    drive = random_drive(seed)
    earned = reward(drive)
    assert earned.shape == (100,)
    assert np.isfinite(earned).all()
    assert np.diff(running_score(drive), prepend=0.0).sum() == pytest.approx(score(drive)["driving_score"] / 100)
    spoken = {"fulfilled": 0.2, "missed": -0.2, "pending": 0.0}[drive.instructions[0].outcome]
    assert earned.sum() <= score(drive)["driving_score"] / 100 + spoken + 1e-9


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 99), st.sampled_from(FAILING))
def test_one_more_failure_never_helps(seed, at, flag):
    drive = random_drive(seed)
    before, earned = score(drive), reward(drive).sum()
    drive.events = drive.events.copy()
    drive.events[at] |= int(flag)
    after = score(drive)
    assert after["success"] <= before["success"]
    assert after["success"] == 0.0
    # Joining two stretches of one event makes them one: only a new stretch must cost.
    if not (drive.events[max(at - 1, 0)] | drive.events[min(at + 1, 99)]) & int(flag):
        assert after["driving_score"] <= before["driving_score"] + 1e-9
        assert reward(drive).sum() <= earned + 1e-9


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_scores_are_finite_and_in_range(seed):
    values = score(random_drive(seed))
    assert all(np.isfinite(v) for v in values.values())
    assert 0.0 <= values["driving_score"] <= 100.0
    assert all(values[f"{n[:-2]}_k"] <= values[n] for n in values if n.endswith("_n"))


def test_a_good_drive_earns_more_than_a_bad_one_and_the_good_turn_is_paid_when_it_happens():
    good = calm_drive(instructions=[told("left", resolved=40)])
    bad = calm_drive(instructions=[told("left", "missed", resolved=40)], events=events(Event.COLLISION_PERSON, 60))
    assert reward(good).sum() == pytest.approx(1.2)
    assert reward(bad).sum() == pytest.approx(0.3)
    assert reward(good)[40] > 0.2
    assert reward(bad)[60] < -0.2


def test_a_crash_of_the_software_is_the_worst_score_of_every_kind():
    worst, fine = worst_score(), score(calm_drive())
    assert worst["crashed"] == 1.0
    for name in ("success", "driving_score", "progress", "comfort", "ttc", "lane_keeping"):
        assert worst[name] == 0.0 < fine[name]
    for name in metrics.EVENT_METRICS:
        assert worst[name] == 1.0 > fine[name]
    assert worst["compliance_n"] == 1.0


def test_an_episode_without_steps_is_a_failure_not_an_error():
    empty = calm_drive(frames=0, instructions=[], ended="crashed")
    values = score(empty)
    assert values["success"] == 0.0
    assert values["driving_score"] == 0.0
    assert values["crashed"] == 1.0
    assert len(reward(empty)) == 0
