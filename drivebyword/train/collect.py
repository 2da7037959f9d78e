"""Scenes in, a dataset of driven episodes out: worker processes, one simulation each, resumable.

Who drives is the expert (demonstrations) or a checkpoint (rollouts the expert relabels: DAgger).
Every finished scene is one part on disk; a killed run, started again, drives only the missing scenes.

    drivebyword collect --scenario town-mixed --seeds 0:400 --out runs/demonstrations
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from drivebyword.core.records import Episode
from drivebyword.core.rig import RigConfig
from drivebyword.core.seeds import require_training_seed
from drivebyword.loop.batching import Checkpoint
from drivebyword.loop.fleet import with_progress
from drivebyword.loop.rollout import DisturbanceConfig, RescueConfig
from drivebyword.train.drives import Collected, Crew, counted, drive_all

if TYPE_CHECKING:
    from drivebyword.world.env import DrivingEnv


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectConfig:
    """What to drive and where to keep it."""

    out: Path
    scenario: str = "town-mixed"
    seeds: tuple[int, int] = (0, 200)
    """Scene seeds [first, last): training or validation seeds only."""
    checkpoint: Path | None = None
    """Who drives: a checkpoint folder, or None for the expert."""
    rescue: RescueConfig | None = None
    """With a checkpoint: when the expert takes over; None leaves the policy to its fate."""
    guarded: bool = False
    """With a checkpoint: whether the guard checks what it does."""
    disturbance: DisturbanceConfig | None = DisturbanceConfig()
    processes: int = 2
    workers: str | None = None
    """Whose cores: `ray://HOST:PORT` for a Ray cluster's, None for this machine's."""
    finalize: bool = True
    """Merge the parts into one LeRobot dataset at the end."""


def collect(config: CollectConfig, rig: RigConfig, show_progress: bool = True) -> Collected:
    """Drive every scene of `config.seeds` that is not on disk yet. Raises ValueError on a test seed."""
    from drivebyword.data.dataset import DatasetWriter
    from drivebyword.world.families import HELD_OUT

    for seed in (config.seeds[0], config.seeds[1] - 1):
        require_training_seed(seed, config.scenario, HELD_OUT)
    if config.seeds[1] <= config.seeds[0]:
        raise ValueError(f"--seeds {config.seeds[0]}:{config.seeds[1]} names no scene; the second must be larger")
    writer = DatasetWriter(config.out, rig=rig)
    have = writer.seeds()
    todo = [seed for seed in range(*config.seeds) if seed not in have]
    crew = Crew(
        out=config.out, rig=rig, checkpoint=config.checkpoint, processes=config.processes, workers=config.workers
    )
    results = drive_all(crew, partial(_prepare, config), todo)
    done = counted(with_progress(results, len(todo), show_progress, lambda value: value.frames), "seed")
    if config.finalize:
        writer.finalize()
    return done


def _prepare(config: CollectConfig, env: DrivingEnv, checkpoint: Checkpoint | None) -> Callable[[int], Episode]:
    """Return what drives one seed."""
    from drivebyword.loop.driver import Policy, driver_in
    from drivebyword.loop.rollout import ExpertPolicy, run_episode

    policy: Policy = ExpertPolicy(env) if checkpoint is None else checkpoint()
    driver = driver_in(env, policy, config.guarded)

    def drive(seed: int) -> Episode:
        return run_episode(
            env,
            driver,
            seed=seed,
            scenario=config.scenario,
            name="expert" if config.checkpoint is None else "policy",
            disturbance=config.disturbance,
            rescue=config.rescue,
            keep_sensors=True,
        )

    return drive
