"""Rollouts of one scene in, what each decision earned against its siblings out.

The reward is `metrics.reward`, itself the change of the driving score, plus the change of `metrics.still_success`.
A decision is credited with the discounted return from there on, less what the other rollouts of the group earned
from the same place of the same route on, as near in time as they were there. So standing for ever, creeping and a
long way round all earn less than a sibling that drove on, and a wait that everybody has to sit out earns nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from drivebyword.core.records import Episode
from drivebyword.metrics import reward, still_success


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditConfig:
    """How far credit reaches, and what counts as a difference."""

    discount: float = 0.975
    """Of each step of 0.2 s: what comes 8 s later counts a third."""
    success: float = 1.0
    """Taken off where the drive can no longer be a success."""
    near: float = 0.01
    """Share of the route within which two rollouts are at the same place."""
    spread: float = 0.05
    """Least standard deviation of the group's returns; with less, its rollouts were all alike and it is dropped."""
    scale: float = 0.2
    """Advantages are divided by the group's standard deviation, but not by less than this."""
    largest: float = 4.0
    """Advantages are cut here."""


def returns_to_go(episode: Episode, config: CreditConfig) -> Float64[np.ndarray, " T"]:
    """Return the discounted sum of what every step and those after it earned."""
    lost = np.diff(still_success(episode), prepend=1.0)
    earned = reward(episode) + config.success * lost
    total, sums = 0.0, np.zeros(len(earned))
    for t in range(len(earned) - 1, -1, -1):
        total = earned[t] + config.discount * total
        sums[t] = total
    return sums


def group_advantages(group: Sequence[Episode], config: CreditConfig) -> list[Float64[np.ndarray, " T"]] | None:
    """Return each decision's advantage in each rollout, or None where the group has no spread to learn from."""
    if len(group) < 2:
        return None
    plain = [float(reward(e).sum() + config.success * (still_success(e)[-1] - 1.0)) for e in group]
    if np.std(plain) < config.spread:
        return None
    places = [np.maximum.accumulate(e.route_completion.astype(np.float64)) for e in group]
    values = [returns_to_go(e, config) for e in group]
    gaps = []
    for i, (place, value) in enumerate(zip(places, values, strict=True)):
        others = [_at(place, places[j], values[j], config.near) for j in range(len(group)) if j != i]
        known = np.stack(others)
        count = np.isfinite(known).sum(0)
        mean = np.nansum(known, 0) / np.maximum(count, 1)
        # Where no other came there is nothing to compare with.
        gaps.append(np.where(count > 0, value - mean, 0.0))
    scale = max(float(np.concatenate(gaps).std()), config.scale)
    return [np.clip(gap / scale, -config.largest, config.largest) for gap in gaps]


def _at(
    place: Float[np.ndarray, " T"], theirs: Float[np.ndarray, " S"], value: Float[np.ndarray, " S"], near: float
) -> Float64[np.ndarray, " T"]:
    """Return what another rollout earned from each place on, NaN where it never came.

    Of all its moments at that place, the one nearest in time.
    """
    now = np.arange(len(place))
    first = np.searchsorted(theirs, place - near, side="left")
    last = np.maximum(np.searchsorted(theirs, place + near, side="right") - 1, first)
    when = np.clip(now, first, last)
    there = when < len(theirs)
    return np.where(there, value[np.minimum(when, len(theirs) - 1)], np.nan)
