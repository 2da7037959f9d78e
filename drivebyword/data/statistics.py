"""Columns in, LeRobot's statistics out: min, max, mean, std and count per element, merged over files.

Rows with a value that is not finite (no lane beside a junction, no other car to collide with) are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Shaped

Stats = dict[str, Any]
"""Keys min, max, mean, std (nested lists of one row's shape) and count ([rows])."""


def column_stats(values: Shaped[np.ndarray, "T ..."]) -> Stats:
    """Return the statistics of one column over its finite rows, all zero if there are none."""
    rows = values.reshape(len(values), -1).astype(np.float64)
    rows = rows[np.isfinite(rows).all(axis=1)]
    if len(rows) == 0:
        rows = np.zeros((1, rows.shape[1]))
        count = 0
    else:
        count = len(rows)
    stats = {"min": rows.min(0), "max": rows.max(0), "mean": rows.mean(0), "std": rows.std(0)}
    return {key: value.tolist() for key, value in stats.items()} | {"count": [count]}


def merge_stats(parts: Iterable[Stats]) -> Stats:
    """Return the statistics of all rows together from those of disjoint sets of rows."""
    every = list(parts)
    filled = [p for p in every if p["count"][0] > 0]
    if not filled:
        return every[0]
    count = np.array([p["count"][0] for p in filled], np.float64)
    stacked = {key: np.stack([np.asarray(p[key], np.float64) for p in filled]) for key in ("min", "max", "mean", "std")}
    weight = (count / count.sum()).reshape(-1, *(1,) * (stacked["mean"].ndim - 1))
    mean = (weight * stacked["mean"]).sum(0)
    variance = (weight * (stacked["std"] ** 2 + (stacked["mean"] - mean) ** 2)).sum(0)
    merged = {"min": stacked["min"].min(0), "max": stacked["max"].max(0), "mean": mean, "std": np.sqrt(variance)}
    return {key: value.tolist() for key, value in merged.items()} | {"count": [int(count.sum())]}
