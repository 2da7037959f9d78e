"""Where a round's CPU-seconds go: labelled stretches of work in, one table out.

What the optimiser's process does is timed by the clock of its threads, so that waiting costs nothing and what else
the machine does is not counted; what the drivers' processes did is told by the operating system when they end.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drivebyword.data.files import write_json

ARITHMETIC = ("optimiser", "worlds and expert", "networks")
"""What a round is for; everything else is its price."""


class Spent:
    """Counts CPU-seconds by label, and the clock's beside them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.began, self.children = time.monotonic(), _children()

    def add(self, label: str, seconds: float) -> None:
        """Count seconds that were measured elsewhere."""
        self.seconds[label] = self.seconds.get(label, 0.0) + seconds

    @contextmanager
    def on(self, label: str) -> Iterator[None]:
        """Count what this thread computes meanwhile."""
        before = time.thread_time()
        try:
            yield
        finally:
            self.add(label, time.thread_time() - before)

    def drivers(self, worlds: dict[str, float]) -> None:
        """Count what processes that have ended took: the worlds told their share, the rest are networks and starts."""
        total = _children() - self.children
        self.children += total
        for label, seconds in worlds.items():
            self.add(label, seconds)
        self.add("networks", max(0.0, total - sum(worlds.values())))

    def table(self) -> dict[str, float]:
        """Return CPU-seconds by label, the largest first, and the share of the arithmetic."""
        total = sum(self.seconds.values())
        found = {k: round(v, 2) for k, v in sorted(self.seconds.items(), key=lambda item: -item[1])}
        arithmetic = sum(self.seconds.get(name, 0.0) for name in ARITHMETIC)
        return found | {
            "total": round(total, 2),
            "clock": round(time.monotonic() - self.began, 2),
            "share of rollout and optimiser arithmetic": round(arithmetic / total, 4) if total else 0.0,
        }

    def write(self, path: Path) -> dict[str, float]:
        """Write the table beside the round."""
        table = self.table()
        write_json(path, table)
        return table


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
