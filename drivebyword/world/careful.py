"""What a competent and careful driver could have avoided: speeds and gaps in, avoided or not out.

UN Regulation 157, Annex 4, Appendix 3: such a driver perceives a risk in 0.4 s, brakes 0.75 s later, and reaches
0.774 g with a jerk of 12.65 m/s3. Harm that this driver could not have avoided is shown apart from the rest.
"""

from __future__ import annotations

from math import inf

PERCEPTION_S, REACTION_S = 0.4, 0.75
DECEL, JERK = 0.774 * 9.81, 12.65
CAR_LENGTH, CAR_WIDTH = 4.4, 1.8
PAST_PARKED = 30 / 3.6
"""m/s: as fast as such a driver passes parked vehicles that may hide somebody."""
WANDER = 0.375
"""Metres somebody drifts within the own lane before a change of lanes is perceived."""


def avoids(
    speed: float,
    gap: float,
    other: float = 0.0,
    decel: float = 0.0,
    window_s: tuple[float, float] = (0.0, inf),
    length: float = CAR_LENGTH,
) -> bool:
    """Tell whether the careful driver stays clear of who is `gap` metres ahead when the risk shows.

    Braking as the model does counts, and so does driving on where that is harmless by itself.

    Args:
        speed: The ego's, m/s.
        gap: Metres between the bumpers when the risk can first be perceived.
        other: The other's speed along the ego's way, m/s.
        decel: With which the other brakes to a stand, m/s2.
        window_s: Between when and when the other's body is in the ego's lane: who crosses or cuts in is not all the
            time.
        length: The other's along the ego's way; until the ego is past by that and its own, they can still touch.
    """
    return any(_clear(speed, gap, other, decel, window_s, length, most) for most in (DECEL, 0.0))


def crossing_s(meets_s: float, pace: float, length: float, width: float = CAR_WIDTH) -> tuple[float, float]:
    """Return between when and when somebody who crosses a lane's middle in `meets_s` seconds is in the ego's way.

    Args:
        meets_s: Seconds until its middle is over the lane's.
        pace: m/s across the lane.
        length: Metres it measures across the lane.
        width: The ego's.
    """
    half = (length + width) / 2 / pace
    return meets_s - half, meets_s + half


def _clear(
    speed: float, gap: float, other: float, decel: float, window_s: tuple[float, float], length: float, most: float
) -> bool:
    """Tell whether the two stay clear when the ego brakes with at most so much after perceiving and reacting."""
    dt, time, brake = 0.01, 0.0, 0.0
    while time < 30.0:
        if window_s[0] <= time <= window_s[1] and -length - CAR_LENGTH < gap <= 0.0:
            return False
        past = gap <= -length - CAR_LENGTH and speed >= other
        behind = gap > 0.0 and (speed <= 0.0 or (speed <= other and decel == 0.0))
        if past or behind or time > window_s[1]:
            return True
        if time >= PERCEPTION_S + REACTION_S:
            brake = min(most, brake + JERK * dt)
        gap += (other - speed) * dt
        speed, other = max(0.0, speed - brake * dt), max(0.0, other - decel * dt)
        time += dt
    return gap > 0.0
