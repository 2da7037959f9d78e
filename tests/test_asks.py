"""What families ask besides no harm: each ask is silent while it is kept and speaks at the first breach."""

import numpy as np
import pytest

from drivebyword.core.geometry import box_corners
from drivebyword.core.records import Lights
from drivebyword.world import asks
from drivebyword.world.asks import Instant, distance


def box(x: float, y: float = 0.0, yaw: float = 0.0, length: float = 4.4, width: float = 1.8) -> np.ndarray:
    return np.array([x, y, yaw, length, width])


def row(x: float, y: float = 0.0, yaw: float = 0.0, speed: float = 0.0) -> np.ndarray:
    return np.array([x, y, yaw, 4.4, 1.8, 1.5, speed * np.cos(yaw), speed * np.sin(yaw), 0.0])


def instant(x: float = 0.0, time: float = 0.0, speed: float = 10.0, **told) -> Instant:
    """The ego's middle at x on a straight way along the x axis."""
    fields = {"aside": 0.0, "accel": 0.0, "them": {}, "lights": {}, "since_s": 0.0} | told
    return Instant(time_s=time, s=x + 2.2, speed=speed, box=box(x), **fields)


def test_slower_counts_between_two_places_only():
    ask = asks.slower(7.0, 20.0, 30.0)
    assert ask(instant(10.0)) is None and ask(instant(40.0)) is None
    assert ask(instant(22.0, speed=7.2)) is None
    assert ask(instant(22.0, speed=7.5)) == "7.5 m/s where 7.0 is asked"


def test_stops_within_is_the_careful_drivers_stopping_distance():
    ask = asks.stops_within(30.0)
    assert ask(instant(speed=12.0)) is None and ask(instant(speed=15.0)) is not None


def test_keeps_gap_while_moving_and_stops_short_while_standing():
    beside = {"car": row(0.0, 2.2)}  # 0.4 m of air
    assert asks.keeps_gap(0.3)(instant(them=beside)) is None
    assert asks.keeps_gap(0.5)(instant(them=beside)) == "0.40 m of air where 0.50 are asked"
    assert asks.keeps_gap(0.5)(instant(them=beside, speed=0.0)) is None
    ahead = {"car": row(5.2)}
    assert asks.stops_short(1.0)(instant(them=ahead)) is None
    assert asks.stops_short(1.0)(instant(them=ahead, speed=0.0)) is not None
    assert asks.stops_short(0.7)(instant(them=ahead, speed=0.0)) is None


@pytest.mark.parametrize(("late", "kept"), [(1.0, False), (2.0, True)])
def test_leaves_time_to_who_crosses_after_the_ego(late, kept):
    """The ego leaves x = 0 at 0.44 s; somebody is there `late` seconds after it."""
    ask, found = asks.leaves_time(1.5), []
    for k in range(25):
        time = 0.2 * k
        side = row(0.0, 10.0 * (time - late - 0.4), np.pi / 2, 10.0)
        found.append(ask(instant(10.0 * time, time, them={"car": side})))
    assert all(word is None for word in found) is kept


def test_who_crossed_before_the_ego_is_no_breach_of_leaving_time():
    ask = asks.leaves_time(1.5)
    for k in range(25):
        time = 0.2 * k
        side = row(30.0, 10.0 * (time - 1.5), np.pi / 2, 10.0)
        assert ask(instant(10.0 * time, time, them={"car": side})) is None


@pytest.mark.parametrize(("gap", "kept"), [(6.0, False), (14.0, True)])
def test_keeps_time_gap_behind_who_drives_ahead(gap, kept):
    ask, found = asks.keeps_time_gap(1.0), []
    for k in range(15):
        x = 2.0 * k
        found.append(ask(instant(x, 0.2 * k, them={"car": row(x + 4.4 + gap, speed=10.0)})))
    assert all(word is None for word in found) is kept


def test_holds_until_waved_on():
    told = {"them": {"officer": row(40.0, 3.0)}}
    ask = asks.holds(20.0, "officer")
    assert ask(instant(17.0, lights={"officer": int(Lights.STOP)}, **told)) is None
    assert ask(instant(18.5, lights={"officer": int(Lights.STOP)}, **told)) == "passed officer, who showed stop"
    ask = asks.holds(20.0, "officer")
    ask(instant(17.0, lights={"officer": int(Lights.STOP)}, **told))
    assert ask(instant(18.5, lights={"officer": int(Lights.GO)}, **told)) is None


def test_makes_way_in_time_until_they_are_past():
    behind, past = {"ambulance": row(-20.0, speed=15.0)}, {"ambulance": row(9.0, 3.0, speed=15.0)}
    ask = asks.makes_way(8.0, 0.3)
    assert ask(instant(since_s=7.0, them=behind)) is None
    assert ask(instant(since_s=9.0, them=behind)) == "in the way after 9 s"
    assert ask(instant(since_s=9.0, them=behind, aside=-0.5)) is None
    assert ask(instant(since_s=9.0, them=past)) is None


def test_keeps_lane_and_brakes_as_needed():
    assert asks.keeps_lane(0.6)(instant(aside=0.5)) is None and asks.keeps_lane(0.6)(instant(aside=-0.7)) is not None
    near, far = {"car": row(4.4 + 6.0)}, {"car": row(4.4 + 30.0)}
    hard = asks.brakes_as_needed(6.0)
    assert hard(instant(accel=-7.5, them=near)) is None, "it was needed"
    assert hard(instant(accel=-7.5, them=far)) is not None and hard(instant(accel=-5.0, them=far)) is None


def test_the_air_between_two_boxes_is_that_between_their_outlines():
    rng = np.random.default_rng(0)
    along = np.linspace(0.0, 1.0, 60)[:, None]

    def outline(one: np.ndarray) -> np.ndarray:
        corners = box_corners(*one)
        return np.concatenate([a + along * (b - a) for a, b in zip(corners, np.roll(corners, -1, 0), strict=True)])

    for _ in range(50):
        one, other = (box(*rng.uniform(-6, 6, 2), rng.uniform(-3, 3)) for _ in range(2))
        gaps = np.hypot(*(outline(one)[:, None] - outline(other)[None]).transpose(2, 0, 1))
        found = distance(one, other)
        assert found == 0.0 or found == pytest.approx(gaps.min(), abs=0.08)
    assert distance(box(0.0), box(5.4)) == pytest.approx(1.0) and distance(box(0.0), box(2.0)) == 0.0
