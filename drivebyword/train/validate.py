"""A checkpoint in, its closed-loop score on validation scenes out: the points of the learning curve."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from drivebyword.core.records import RigConfig
from drivebyword.core.seeds import VALIDATION_SEEDS
from drivebyword.loop.fleet import run_tasks, with_progress


def validate(
    checkpoint: Path, rig: RigConfig, scenes: int, processes: int, show: bool, scenario: str = "town"
) -> dict[str, float]:
    """Drive the first `scenes` validation scenes, policy alone; return mean scores and n."""
    seeds = list(range(VALIDATION_SEEDS.start, VALIDATION_SEEDS.start + scenes))
    done = run_tasks(partial(_make_worker, checkpoint, rig, scenario), seeds, processes)
    rows = []
    for result in with_progress(done, scenes, show, lambda value: int(value["frames"])):
        rows.append(result.value if result.error is None else {"success": 0.0, "crashed": 1.0})
    names = sorted({name for row in rows for name in row} - {"frames"})
    means = {name: float(np.mean([row.get(name, 0.0) for row in rows])) for name in names}
    return {"n": float(scenes), **means}


def _make_worker(checkpoint: Path, rig: RigConfig, scenario: str) -> Callable[[int], dict[str, float]]:
    """Return what drives one validation seed and scores it."""
    from drivebyword.loop.driver import Driver
    from drivebyword.loop.rollout import run_episode
    from drivebyword.metrics import score
    from drivebyword.model.streaming import StreamingPolicy
    from drivebyword.world.env import DrivingEnv

    env = DrivingEnv(rig=rig)
    driver = Driver(StreamingPolicy.from_pretrained(checkpoint, threads=1), None)

    def work(seed: int) -> dict[str, float]:
        episode = run_episode(env, driver, seed=seed, scenario=scenario, name="policy", label=False)
        return {**score(episode), "frames": float(len(episode))}

    return work
