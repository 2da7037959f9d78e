"""Rollouts of one scene in, what each decision earned against its siblings out.

The reward is `metrics.reward`, itself the change of the driving score, plus the change of `metrics.still_success`.
A decision is credited with the discounted return from there on, less what the other rollouts of the group earned
from the same place under the same sentence on, as near in time as they were there. So standing for ever, creeping and
a long way round all earn less than a sibling that drove on, a wait that everybody has to sit out earns nothing, and
past a fork where each went its own way only the decisions at the fork are judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int

from drivebyword.core.geometry import wrap_angle
from drivebyword.core.records import Episode
from drivebyword.metrics import STOPPED, reward, still_success


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditConfig:
    """How far credit reaches, and what counts as a difference."""

    discount: float = 0.975
    """Of each step of 0.2 s: what comes 8 s later counts a third."""
    success: float = 1.0
    """Taken off where the drive can no longer be a success."""
    near: float = 3.0
    """Metres within which two rollouts are at the same place."""
    heading: float = 0.5
    """Radians within which they go the same way there."""
    spread: float = 0.05
    """Least standard deviation of the group's returns; with less, its rollouts were all alike and it is dropped."""
    scale: float = 0.2
    """Advantages are divided by the group's standard deviation, but not by less than this."""
    largest: float = 4.0
    """Advantages are cut here."""
    stand: int = 25
    """Decisions that a stand counts for at most: a car that never moves off would outweigh all else by its length."""


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
    values = [returns_to_go(e, config) for e in group]
    gaps = []
    for i, mine in enumerate(group):
        met = {j: _meeting(mine, other, config) for j, other in enumerate(group) if j != i}
        known = np.stack([values[j][when] * there for j, (when, there) in met.items()])
        gaps.append(np.where(np.isfinite(known).any(0), values[i] - _mean(known), 0.0))
    counts = [_counts(e, config.stand) for e in group]
    flat, weight = np.concatenate(gaps), np.concatenate(counts)
    scale = max(float(np.sqrt((weight * flat**2).sum() / weight.sum())), config.scale)
    return [c * np.clip(gap / scale, -config.largest, config.largest) for c, gap in zip(counts, gaps, strict=True)]


def _counts(episode: Episode, most: int) -> Float64[np.ndarray, " T"]:
    """Return how much each decision counts: less in a stand, where the same one is made again and again."""
    stands = np.concatenate([[False], episode.motion[:, 0] < STOPPED, [False]]).astype(int)
    counts = np.ones(len(episode))
    for first, last in zip(np.flatnonzero(np.diff(stands) > 0), np.flatnonzero(np.diff(stands) < 0), strict=True):
        counts[first:last] = min(1.0, most / (last - first))
    return counts


def _mean(known: Float[np.ndarray, "G T"]) -> Float64[np.ndarray, " T"]:
    """Return the mean over those who were there; 0 where nobody was."""
    there = np.isfinite(known)
    return np.where(there, known, 0.0).sum(0) / np.maximum(there.sum(0), 1)


def _meeting(
    mine: Episode, other: Episode, config: CreditConfig
) -> tuple[Int[np.ndarray, " T"], Float64[np.ndarray, " T"]]:
    """Return when another rollout was where this one is, under the same sentence, and 1, or NaN where it never was.

    Of all its moments there, the one nearest in time.
    """
    a, b = mine.pose, other.pose
    apart = np.hypot(a[:, None, 0] - b[None, :, 0], a[:, None, 1] - b[None, :, 1])
    turned = np.abs(wrap_angle(a[:, None, 2] - b[None, :, 2]))
    same = _said(mine)[:, None] == _said(other)[None]
    there = (apart < config.near) & (turned < config.heading) & same
    late = np.abs(np.arange(len(a))[:, None] - np.arange(len(b))[None])
    when = np.where(there, late, len(a) + len(b)).argmin(1)
    return when, np.where(there.any(1), 1.0, np.nan)


def _said(episode: Episode) -> np.ndarray:
    return np.array([i.sentence for i in episode.instructions])[episode.instruction_index]
