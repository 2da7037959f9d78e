"""The same scenes again and again: families in, how many scenes' bytes differed out.

A scene's digest is the SHA-256 of every sensor, the ego's own measures and the sentence over its first steps, the
expert driving. It is taken in three processes with other hash seeds and another order of scenes, and once more in one
of them after a hundred scenes of any kind.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from drivebyword.evaluate.report import commit, machine

SCENES, PROCESSES, RESETS, STEPS = 50, 3, 100, 25
Digests = dict[str, str]


def bench_repeats(share: float = 1.0) -> dict[str, Any]:
    """Return the report over `share` of 50 scenes of all families."""
    from drivebyword.loop.fleet import run_tasks

    count, resets = max(3, round(SCENES * share)), max(3, round(RESETS * share))
    tasks = [(number, count, resets) for number in range(PROCESSES)]
    kept = os.environ.pop("PYTHONHASHSEED", None)  # unset, every process draws its own
    done = sorted(run_tasks(_worker, tasks, PROCESSES), key=lambda finished: finished.task)
    os.environ.update({"PYTHONHASHSEED": kept} if kept is not None else {})
    failed = [f"process {finished.task[0]}: {finished.error}" for finished in done if finished.error is not None]
    if failed:
        raise RuntimeError(failed[0])
    runs: list[tuple[Digests, Digests]] = [finished.value for finished in done]
    first = runs[0][0]
    unequal = sum(any(run[scene] != digest for run, _ in runs) for scene, digest in first.items())
    later = sum(after[scene] != first[scene] for _, after in runs for scene in after)
    return {
        "bench": "repeats",
        "machine": machine(),
        "commit": commit(),
        "rows": {
            "scenes": {"value": len(first), "unit": "scenes of all families", "floor": min(count, SCENES)},
            "distinct digests": {"value": len(set(first.values())), "unit": "digests"},
            f"unequal over {PROCESSES} processes": {"value": unequal, "unit": "scenes", "ceiling": 0},
            f"unequal after {resets} resets": {"value": later, "unit": "scenes", "ceiling": 0},
        },
        "digests": first,
    }


def scenes_of(count: int) -> list[tuple[str, int]]:
    """Return scenes of every family in turn, and of towns."""
    from drivebyword.world.families import FAMILIES

    names = [*FAMILIES, *(f"{name}/twin" for name in FAMILIES)]
    return [(names[k % len(names)], 1_000_000 + k) for k in range(count)]


def digest_of(env: Any, scenario: str, seed: int) -> str:
    """Return the SHA-256 of what every sensor gives over a scene's first steps."""
    env.reset(seed=seed, options={"scenario": scenario})
    digest = hashlib.sha256()
    for _ in range(STEPS):
        seen = env.observation()
        parts = [seen.cameras[name] for name in sorted(seen.cameras)]
        parts += [part for part in (seen.lidar, seen.radar, seen.radar_valid, seen.ego) if part is not None]
        for part in parts:
            digest.update(np.ascontiguousarray(part).tobytes())
        digest.update(seen.instruction.encode())
        *_, info = env.step(env.expert().act[0])
        if info["ended"] is not None:
            break
    return digest.hexdigest()


def _worker() -> Callable[[tuple[int, int, int]], tuple[Digests, Digests]]:
    from drivebyword.world.env import DrivingEnv

    env = DrivingEnv()

    def digests(scenes: list[tuple[str, int]]) -> Digests:
        return {f"{name} {seed}": digest_of(env, name, seed) for name, seed in scenes}

    def work(task: tuple[int, int, int]) -> tuple[Digests, Digests]:
        number, count, resets = task
        scenes = scenes_of(count)
        order = np.random.default_rng([number, 73]).permutation(len(scenes)) if number else np.arange(len(scenes))
        found = digests([scenes[k] for k in order])
        if number:
            return found, {}
        for k in range(resets):
            env.reset(seed=1_000_500 + k, options={"scenario": scenes[k % len(scenes)][0]})
            env.step(np.array([0.0, 1.0, 0.0]))
        return found, digests(scenes)

    return work
