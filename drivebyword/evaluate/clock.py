"""CPU time of things that are compared: functions in, milliseconds out, taken in turn so that a busy machine hits all.

Process CPU time on one thread: what else the machine does costs caches, not counts. The median says what it takes,
the least what it can take.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def in_turn(runs: Mapping[str, Callable[[], object]], times: int, warm: int = 1) -> dict[str, list[float]]:
    """Call each `warm` and then `times` times, one after another; return CPU ms of each call."""
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(warm + times):
        for name, run in runs.items():
            before = time.process_time()
            run()
            if turn >= warm:
                spent[name].append((time.process_time() - before) * 1e3)
    return spent


def middle(values: list[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def timed(values: list[float], unit: str = "ms of CPU") -> dict[str, Any]:
    """Return a report's row of the median; the least stands beside it."""
    return {"value": round(middle(values), 3), "unit": unit, "least": round(min(values), 3)}


def ratio(
    slow: list[float], fast: list[float], to: str, *, floor: float | None = None, ceiling: float | None = None
) -> dict[str, Any]:
    """Return a report's row of how many times longer `slow` takes, by medians; `least` is the same by least times."""
    value = middle(slow) / middle(fast)
    found = {"value": round(value, 3), "unit": "times", "ratio_to": to, "ratio": round(value, 3)}
    found["least"] = round(min(slow) / min(fast), 3)
    return found | {name: bar for name, bar in (("floor", floor), ("ceiling", ceiling)) if bar is not None}
