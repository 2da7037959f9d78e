"""A checkpoint in, how many validation scenes it drives with success out: alone, undisturbed, nothing is recorded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from drivebyword.core.rates import Rate, wilson
from drivebyword.core.rig import RigConfig
from drivebyword.core.seeds import VALIDATION_SEEDS
from drivebyword.loop.batching import Checkpoint, Networks
from drivebyword.loop.fleet import SCENE_S, run_tasks


def validate(checkpoint: Path, rig: RigConfig, scenario: str, scenes: int, processes: int) -> Rate:
    """Drive the first validation scenes; one whose process was lost, or that raised, is no success."""
    seeds = list(VALIDATION_SEEDS[:scenes])
    with Networks(processes, nice=10) as networks:
        make = partial(_make_worker, rig, scenario, networks.serve(Checkpoint(checkpoint)))
        done = list(run_tasks(make, seeds, networks.worlds, 10, limit_s=SCENE_S, tend=networks.tend))
    return wilson(sum(bool(one.value) for one in done), len(seeds))


def _make_worker(rig: RigConfig, scenario: str, checkpoint: Checkpoint) -> Callable[[int], bool]:
    from drivebyword.loop.driver import driver_in
    from drivebyword.loop.rollout import run_episode
    from drivebyword.metrics import score
    from drivebyword.world.env import DrivingEnv

    env = DrivingEnv(rig=rig)
    driver = driver_in(env, checkpoint(), guarded=False)

    def work(seed: int) -> bool:
        episode = run_episode(env, driver, seed=seed, scenario=scenario, name="policy", label=False)
        return score(episode)["success"] > 0.5

    return work
