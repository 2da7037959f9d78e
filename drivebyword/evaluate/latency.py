"""How long one decision takes: a checkpoint in, milliseconds a decision on one thread out.

CPU time is counted beside the clock's: on a machine that others use, the clock says how long they took.
The observations are random and change every third decision, so that no world is needed and drafts fail more often
than in driving. What is seen does not change what a pass costs; how many passes a decision takes is counted beside.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from drivebyword.core.records import Observation
from drivebyword.core.rig import RigConfig

if TYPE_CHECKING:
    from drivebyword.model.streaming import StreamingPolicy

PER_SECOND = {"torch": 10.0}
"""Least decisions a second of an engine; of the others, which are there to be fast, FAST."""
FAST, CALM = 60.0, 2.0
"""Least decisions a second on one core, and the most the 99th percentile may be of the median."""
WARM_UP = 12
SENTENCES = ("turn left at the next intersection", "pull over when it is safe")


def bench_latency(folder: str | Path, decisions: int = 3000, engine: str = "torch") -> dict[str, Any]:
    """Time `decisions` streamed decisions of a checkpoint on one thread; return the report of a bench."""
    from drivebyword.evaluate.report import commit, machine
    from drivebyword.model.streaming import StreamingPolicy

    started = time.perf_counter()
    policy = StreamingPolicy.from_pretrained(folder, threads=1, engine=engine)
    policy.reader.read(SENTENCES[0])
    load = time.perf_counter() - started
    wall, cpu, passes = time_decisions(policy, decisions)
    middle, late, latest = np.percentile(wall, [50, 95, 99])
    spent, most = np.percentile(cpu, [50, 99])
    least = PER_SECOND.get(engine, FAST)
    rows = {
        "decisions": _row(float(len(wall)), "decisions"),
        "p50": _row(middle, "ms"),
        "p95": _row(late, "ms"),
        "p99": _row(latest, "ms"),
        "p99 over p50": _row(latest / middle, "times"),
        "cpu min": _row(float(cpu.min()), "ms of CPU"),
        "cpu p50": _row(spent, "ms of CPU"),
        "cpu p99": _row(most, "ms of CPU"),
        "cpu p99 over p50": _row(most / spent, "times") | {"ceiling": CALM},
        "decisions per second": _row(1e3 / middle, "1/s"),
        "decisions per CPU-second": _row(1e3 / spent, "1/s", floor=least),
        "passes per decision": _row(float(passes.mean()), "passes"),
        "new sentence": _row(_time_sentence(policy), "ms"),
        "load": _row(load, "s"),
    } | {f"cpu p50, {int(n)} passes": _row(np.median(cpu[passes == n]), "ms of CPU") for n in np.unique(passes)}
    return {"bench": "latency", "engine": engine, "machine": machine(), "commit": commit(), "rows": rows}


def time_decisions(
    policy: StreamingPolicy, decisions: int
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return wall ms, CPU ms and passes of each decision after a warm-up that fills the window."""
    rig = policy.policy.config.rig
    stream = policy.policy.config.stream
    warm = max(WARM_UP, stream.window * stream.stride)
    wall, cpu, passes = [], [], []
    for step in range(warm + decisions):
        seen = random_observation(rig, step, SENTENCES[0])
        before, spent = time.perf_counter(), time.process_time()
        policy.decide(seen)
        wall.append((time.perf_counter() - before) * 1e3)
        cpu.append((time.process_time() - spent) * 1e3)
        passes.append(float(policy.trace.passes) if policy.trace else 0.0)
    return np.array(wall[warm:]), np.array(cpu[warm:]), np.array(passes[warm:])


def _time_sentence(policy: StreamingPolicy) -> float:
    """Return what the first decision after a new sentence costs in ms: reading it and the window once more."""
    seen = random_observation(policy.policy.config.rig, 0, SENTENCES[1])
    before = time.perf_counter()
    policy.decide(seen)
    return (time.perf_counter() - before) * 1e3


def random_observation(rig: RigConfig, step: int, sentence: str) -> Observation:
    """Return an observation of the right shapes; a slowly changing one, as in driving."""
    rng = np.random.default_rng(step // 3)
    lidar = radar = valid = None
    if rig.lidar is not None:
        lidar = (rng.random((rig.lidar.beams, rig.lidar.columns, 2)) * (60.0, 1.0)).astype(np.float32)
    if rig.radar is not None:
        radar = rng.standard_normal((rig.radar.detections, 4)).astype(np.float32)
        valid = rng.random(rig.radar.detections) < 0.6
    return Observation(
        time_s=step * 0.2,
        cameras={c.name: rng.integers(0, 256, (c.height, c.width, 3), dtype=np.uint8) for c in rig.cameras},
        lidar=lidar,
        radar=radar,
        radar_valid=valid,
        ego=np.array([8.0, 0.0, 0.0, 0.0, step * 1.6, 0.0, 0.0], np.float32),
        instruction=sentence,
    )


def _row(value: float, unit: str, floor: float | None = None) -> dict[str, Any]:
    return {"value": round(float(value), 3), "unit": unit, "ratio_to": None, "ratio": None, "floor": floor}
