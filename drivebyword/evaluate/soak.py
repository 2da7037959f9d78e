"""Two worlds for half an hour: scenes in, what leaks out (memory, open files, processes).

Every scene is another scenario of all there are, driven at random for some seconds. Memory is what the kernel says a
worker has resident. The first third of the time is warm-up: every town kept, everything compiled and touched once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from drivebyword.evaluate.report import commit, machine

MINUTES, WORLDS, STEPS = 30.0, 2, 60
WARM_UP = 1.0 / 3.0
DRIFT_MB = 20.0


def bench_soak(share: float = 1.0, told: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Return the report after `share` of half an hour."""
    from drivebyword.world.scenario import SCENARIOS
    from drivebyword.world.vector import make_worlds

    begun, seconds = time.monotonic(), 60.0 * MINUTES * share
    rng, names = np.random.default_rng(71), sorted(SCENARIOS)
    worlds = make_worlds(WORLDS, scenario="town-mixed")
    pids = [process.pid for process in worlds.processes]
    samples: list[tuple[float, list[float], list[int]]] = []
    frames = scenes = 0
    while time.monotonic() - begun < seconds or len(samples) < 6:
        name = names[int(rng.integers(len(names)))]
        seeds = rng.integers(1_000_000, 1_001_000, WORLDS).tolist()
        worlds.reset(seed=seeds, options={"scenario": name})
        scenes += WORLDS
        for _ in range(STEPS):
            steer, pedal = rng.normal(0.0, 0.05, WORLDS), rng.uniform(-0.3, 1.0, WORLDS)
            acts = np.stack([steer, np.maximum(pedal, 0.0), np.maximum(-pedal, 0.0)], axis=1)
            _, _, terminated, truncated, _ = worlds.step(acts.astype(np.float32))
            frames, scenes = frames + WORLDS, scenes + int((terminated | truncated).sum())
        spent = time.monotonic() - begun
        samples.append((spent, [resident_mb(pid) for pid in pids], [_open_files(pid) for pid in pids]))
        if not samples[:-1] or int(spent / 60) > int(samples[-2][0] / 60):
            told(
                f"{spent / 60:4.1f} min  {scenes} scenes  {frames} frames  {samples[-1][1]} MB  {samples[-1][2]} files"
            )
    worlds.close()
    orphans = sum(Path(f"/proc/{pid}").exists() for pid in pids)
    rows = _rows(samples, seconds)
    rows["orphan processes"] = {"value": orphans, "unit": "processes", "ceiling": 0}
    rows["time"] = {"value": round(samples[-1][0] / 60, 2), "unit": "minutes"}
    rows["scenes"] = {"value": scenes, "unit": f"scenes in {WORLDS} worlds"}
    rows["frames"] = {"value": frames, "unit": "frames"}
    return {"bench": "soak", "machine": machine(), "commit": commit(), "rows": rows}


def _rows(samples: list[tuple[float, list[float], list[int]]], seconds: float) -> dict[str, Any]:
    """Compare each worker's first third after the warm-up with its last: medians, since scenes differ."""
    warm = [s for s in samples if s[0] >= WARM_UP * seconds] or samples
    third = max(1, len(warm) // 3)
    early, late = (np.median([s[1] for s in part], axis=0) for part in (warm[:third], warm[-third:]))
    files = np.array([s[2] for s in warm])
    return {
        "memory drift": {"value": round(float((late - early).max()), 1), "unit": "MB", "ceiling": DRIFT_MB},
        "memory a world": {"value": round(float(late.max()), 1), "unit": "MB resident"},
        "open files' drift": {"value": int(np.ptp(files, axis=0).max()), "unit": "files", "ceiling": 0},
    }


def resident_mb(pid: int | None) -> float:
    """Return the megabytes of memory a process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    return round(int(status.partition("VmRSS:")[2].split()[0]) / 1024.0, 1)


def _open_files(pid: int | None) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - names alone, no paths
