"""What a competent and careful driver could have avoided: speeds and gaps in, avoided or not out.

UN Regulation 157, Annex 4, Appendix 3: such a driver perceives a risk in 0.4 s, brakes 0.75 s later, and reaches
0.774 g with a jerk of 12.65 m/s3. Harm that this driver could not have avoided is shown apart from the rest.
"""

from __future__ import annotations

PERCEPTION_S, REACTION_S = 0.4, 0.75
DECEL, JERK = 0.774 * 9.81, 12.65
WANDER = 0.375
"""Metres somebody drifts within the own lane before a change of lanes is perceived."""


def avoids(speed: float, gap: float, other: float = 0.0, decel: float = 0.0) -> bool:
    """Tell whether the careful driver stays clear of who is `gap` metres ahead when the risk shows.

    Args:
        speed: The ego's, m/s.
        gap: Metres between the bumpers when the risk can first be perceived.
        other: The other's speed along the ego's way, m/s.
        decel: With which the other brakes to a stand, m/s2.
    """
    dt, time, brake = 0.01, 0.0, 0.0
    while time < 30.0:
        if gap <= 0.0:
            return False
        if speed <= other and decel == 0.0:
            return True
        if speed <= 0.0:
            return True
        if time >= PERCEPTION_S + REACTION_S:
            brake = min(DECEL, brake + JERK * dt)
        gap += (other - speed) * dt
        speed, other = max(0.0, speed - brake * dt), max(0.0, other - decel * dt)
        time += dt
    return gap > 0.0
