"""Counts in, a rate with its Wilson 95 % interval out."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Rate:
    """k of n with its Wilson 95 % interval."""

    k: int
    n: int
    rate: float
    low: float
    high: float


def wilson(k: int, n: int) -> Rate:
    """Return the Wilson score interval of k successes in n trials; of nothing it is [0, 1]."""
    if not 0 <= k <= n:
        raise ValueError(f"k = {k} of n = {n} is no count: k must lie between 0 and n")
    if n == 0:
        return Rate(0, 0, 0.0, 0.0, 1.0)
    p, z2 = k / n, Z95 * Z95
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    low = 0.0 if k == 0 else middle - half
    high = 1.0 if k == n else middle + half
    return Rate(k, n, p, low, high)
