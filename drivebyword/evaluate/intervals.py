"""Counts in, rates with their uncertainty out. The episode is the unit; nothing here knows what was counted."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np
from jaxtyping import Float

from drivebyword.core.rates import Rate, wilson

BOOTSTRAPS = 2000


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over n episodes with its 95 % interval."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Rate of a minus rate of b on the same scenes."""

    difference: float
    low: float
    high: float
    p_value: float
    """Two-sided exact McNemar test: could the discordant scenes be a fair coin?"""
    n: int


def bootstrap_mean(values: Float[np.ndarray, " N"], seed: int = 0) -> Mean:
    """Return a mean with its percentile bootstrap interval over episodes."""
    if not np.isfinite(values).all():
        raise ValueError("a metric is not finite: count the episode as a failure before averaging")
    n = len(values)
    if n == 0:
        return Mean(0.0, 0.0, 0.0, 0)
    drawn = np.random.default_rng(seed).integers(0, n, (BOOTSTRAPS, n))
    low, high = np.percentile(values[drawn].mean(1), [2.5, 97.5])
    return Mean(float(values.mean()), float(low), float(high), n)


def bootstrap_ratio(k: Float[np.ndarray, " N"], n: Float[np.ndarray, " N"], seed: int = 0) -> Rate:
    """Return sum(k) / sum(n), where each episode counts several things, with a bootstrap over episodes.

    Things of one episode go wrong together, so their number is no sample size; where the bootstrap has
    nothing to vary (all good or all bad) Wilson's interval on the episodes takes its place.
    """
    total_k, total_n = float(k.sum()), float(n.sum())
    if total_n == 0:
        return Rate(0, 0, 0.0, 0.0, 1.0)
    episodes = int((n > 0).sum())
    if total_k in (0.0, total_n):
        bounds = wilson(episodes if total_k else 0, episodes)
        return Rate(int(total_k), int(total_n), total_k / total_n, bounds.low, bounds.high)
    drawn = np.random.default_rng(seed).integers(0, len(n), (BOOTSTRAPS, len(n)))
    below = n[drawn].sum(1)
    share = k[drawn].sum(1)[below > 0] / below[below > 0]
    low, high = np.percentile(share, [2.5, 97.5])
    return Rate(int(total_k), int(total_n), total_k / total_n, float(low), float(high))


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the exact two-sided p-value of the discordant pairs."""
    n = only_a + only_b
    if n == 0:
        return 1.0
    tail = sum(comb(n, i) for i in range(min(only_a, only_b) + 1)) / 2**n
    return min(1.0, 2.0 * tail)


def paired_difference(a: Float[np.ndarray, " A"], b: Float[np.ndarray, " B"], seed: int = 0) -> PairedDifference:
    """Compare two policies on the same scenes, in the same order: 0-or-1 outcomes or scores.

    The p-value is McNemar's on who did better in a scene (for scores: the sign test, which it then is).
    """
    if len(a) != len(b):
        raise ValueError(f"paired values need the same scenes: got {len(a)} and {len(b)}")
    if len(a) == 0:
        return PairedDifference(0.0, -1.0, 1.0, 1.0, 0)
    gap = a - b
    drawn = np.random.default_rng(seed).integers(0, len(gap), (BOOTSTRAPS, len(gap)))
    low, high = np.percentile(gap[drawn].mean(1), [2.5, 97.5])
    p_value = mcnemar(int((gap > 0).sum()), int((gap < 0).sum()))
    return PairedDifference(float(gap.mean()), float(low), float(high), p_value, len(gap))


def bootstrap_ratio_difference(
    k: Float[np.ndarray, " N"],
    n: Float[np.ndarray, " N"],
    k0: Float[np.ndarray, " N"],
    n0: Float[np.ndarray, " N"],
    seed: int = 0,
) -> Mean:
    """Return sum(k) / sum(n) - sum(k0) / sum(n0) on the same scenes, with a paired bootstrap over them."""
    if n.sum() == 0 or n0.sum() == 0:
        return Mean(0.0, -1.0, 1.0, 0)
    drawn = np.random.default_rng(seed).integers(0, len(n), (BOOTSTRAPS, len(n)))
    below, below0 = n[drawn].sum(1), n0[drawn].sum(1)
    both = (below > 0) & (below0 > 0)
    gaps = k[drawn].sum(1)[both] / below[both] - k0[drawn].sum(1)[both] / below0[both]
    low, high = np.percentile(gaps, [2.5, 97.5])
    return Mean(float(k.sum() / n.sum() - k0.sum() / n0.sum()), float(low), float(high), len(n))
