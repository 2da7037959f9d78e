"""Affordances: what matters ahead as numbers from 0 (not there, or far) to 1 (here)."""

from math import exp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivebyword.core.records import AFFORDANCES, SignalState
from drivebyword.world.caution import Ahead, Conflict
from drivebyword.world.sight import SIGNAL_SIGHT, Sight, SignalOnWay, affordances
from drivebyword.world.traffic import SpeedPlan

DT = 0.2


def named(sight: Sight, speed: float = 8.0, wanted: float = 8.0) -> dict[str, float]:
    values = affordances(sight, speed, SpeedPlan(speed=wanted, accel=0.0), DT)
    return dict(zip(AFFORDANCES, values.tolist(), strict=True))


def look(**seen) -> Sight:
    nothing = dict.fromkeys(("signal", "leader", "conflict", "direction", "line", "gap", "person", "junction"))
    return Sight(**{**nothing, **seen})


def signal(colour: SignalState, room: float) -> SignalOnWay:
    return SignalOnWay(colour=int(colour), room=room, line=room, lane="a_0")


def leader(gap: float, speed: float) -> Ahead:
    return Ahead(row=0, gap=gap, speed=speed, person=False)


def test_an_empty_road_affords_nothing():
    assert not any(named(look()).values())


@pytest.mark.parametrize("colour", [SignalState.RED, SignalState.AMBER, SignalState.RED_AMBER])
def test_all_that_is_not_green_counts_as_red(colour):
    seen = named(look(signal=signal(colour, 10.0)))
    assert seen["red_light"] == 1.0 and seen["green_light"] == 0.0
    assert seen["stop_line"] == pytest.approx(exp(-0.5))


def test_green_is_told_from_red_and_neither_is_claimed_beyond_sight():
    near, far = (named(look(signal=signal(SignalState.GREEN, room))) for room in (10.0, SIGNAL_SIGHT + 1))
    assert near["green_light"] == 1.0 and near["red_light"] == 0.0
    assert far["green_light"] == far["red_light"] == far["stop_line"] == 0.0


def test_a_leader_is_nearer_and_closing_faster_the_more_it_must_be_braked_for():
    near, far = named(look(leader=leader(8.0, 4.0))), named(look(leader=leader(30.0, 4.0)))
    assert near["leader"] > far["leader"] > 0 and near["closing"] > far["closing"] > 0
    assert named(look(leader=leader(8.0, 9.0)))["closing"] == 0.0


@pytest.mark.parametrize(("person", "name"), [(True, "person_crossing"), (False, "crossing")])
def test_who_crosses_is_told_apart(person, name):
    conflict = Conflict(row=0, distance=5.0, time_s=1.0, person=person, side="left")
    seen = named(look(conflict=conflict))
    assert seen[name] == pytest.approx(exp(-0.5)) and sum(value > 0 for value in seen.values()) == 1


@settings(deadline=None)
@given(st.floats(-1, 90), st.floats(-2, 90), st.floats(0, 20), st.floats(0, 20), st.floats(0, 20), st.floats(0, 30))
def test_every_affordance_lies_between_zero_and_one(room, gap, pace, speed, wanted, distance):
    conflict = Conflict(row=0, distance=distance, time_s=0.0, person=True, side="ahead")
    sight = look(
        signal=signal(SignalState.RED, room), leader=leader(gap, pace), conflict=conflict, person="left", junction=room
        if room > 0 else 0.0,
    )  # fmt: skip
    values = affordances(sight, speed, SpeedPlan(speed=wanted, accel=0.0), DT)
    assert np.isfinite(values).all() and (values >= 0).all() and (values <= 1).all()
