"""Worlds side by side: nothing in, throughput of two against one, memory a world and seconds a reset out.

What two processes of pure computing give on this machine stands beside the ratio: two threads of one physical core
are no two cores, and no simulation can do better than they do. Rounds alternate, so that what else the machine does
falls on both. The ego stands, so that scenes go on: worlds step together, and a reset of one is waited for by all.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import time
from typing import Any

import numpy as np

from drivebyword.evaluate.bench import crowd
from drivebyword.evaluate.report import commit, machine
from drivebyword.evaluate.soak import resident_mb

ROUNDS, FRAMES, RESETS, LOOPS = 5, 600, 30, 20_000_000
RATIO, MEMORY_MB, RESET_S = 1.8, 300.0, 0.1


def bench_parallel(share: float = 1.0) -> dict[str, Any]:
    """Return the report; `share` shortens every round."""
    from drivebyword.world.rigs import reference
    from drivebyword.world.vector import make_worlds

    frames, resets, loops = (max(10, round(n * share)) for n in (FRAMES, RESETS, LOOPS))
    sets = {count: make_worlds(count, rig=reference(), scenario=crowd()) for count in (1, 2)}
    rates: dict[int, list[float]] = {1: [], 2: []}
    ceilings: list[float] = []
    for number in range(ROUNDS):
        for count, worlds in sets.items():
            worlds.reset(seed=1_000_000 + 10 * number)
            rates[count].append(_frames_a_second(worlds, count, frames))
        alone, both = _loops_a_second(1, loops), _loops_a_second(2, loops)
        ceilings.append(both / alone)
    spent = _reset_seconds(sets[1], resets)
    memory = max(resident_mb(process.pid) for process in sets[1].processes)
    for worlds in sets.values():
        worlds.close()
    ratio = float(np.median(np.array(rates[2]) / np.array(rates[1])))
    one, two = (float(np.median(rates[count])) for count in (1, 2))
    ceiling = float(np.median(ceilings))
    rows = {
        "one world": {"value": round(one, 1), "unit": "frames per second of the clock"},
        "two worlds": {"value": round(two, 1), "unit": "frames per second of the clock"},
        "two worlds against one": {"value": round(ratio, 2), "unit": "times", "floor": RATIO},
        "two loops of pure computing against one": {"value": round(ceiling, 2), "unit": "times"},
        "share of what the machine gives": {"value": round(ratio / ceiling, 2), "unit": "of that"},
        "memory a world": {"value": memory, "unit": "MB resident", "ceiling": MEMORY_MB},
        "reset, median": {"value": round(float(np.median(spent)), 4), "unit": "s of the clock", "ceiling": RESET_S},
        "load before": {"value": round(os.getloadavg()[1], 1), "unit": "processes wanting one of the cores"},
    }
    return {"bench": "parallel", "machine": machine(), "commit": commit(), "rows": rows}


def _frames_a_second(worlds: Any, count: int, frames: int) -> float:
    act = np.tile(np.array([0.0, 0.0, 0.5], np.float32), (count, 1))
    for _ in range(5):
        worlds.step(act)
    begun = time.perf_counter()
    for _ in range(frames):
        worlds.step(act)
    return count * frames / (time.perf_counter() - begun)


def _reset_seconds(worlds: Any, resets: int) -> list[float]:
    """Time resets after the first of each town: what a town costs to draw is paid once."""
    worlds.reset(seed=1_000_001)
    spent = []
    for _ in range(resets):
        begun = time.perf_counter()
        worlds.reset(seed=1_000_001)
        spent.append(time.perf_counter() - begun)
    return spent


def _loops_a_second(count: int, loops: int) -> float:
    """Run a loop that needs nothing but a core in `count` processes at once; return loops a second of all."""
    context = mp.get_context("spawn")
    ready, go = context.Barrier(count + 1), context.Barrier(count + 1)
    workers = [context.Process(target=_loop, args=(ready, go, loops), daemon=True) for _ in range(count)]
    for worker in workers:
        worker.start()
    ready.wait(timeout=60)
    begun = time.perf_counter()
    go.wait(timeout=60)
    for worker in workers:
        worker.join()
    return count * loops / (time.perf_counter() - begun)


def _loop(ready: Any, go: Any, loops: int) -> None:
    ready.wait()
    go.wait()
    total = 0.0
    for k in range(loops):
        total += k * 0.5
