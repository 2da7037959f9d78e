"""Scenes in, a dataset of driven episodes out: worker processes, one simulation each, resumable.

Who drives is the expert (demonstrations) or a checkpoint (rollouts the expert relabels: DAgger).
Every finished scene is one part on disk; a killed run, started again, drives only the missing scenes.

    drivebyword collect --scenario town-mixed --seeds 0:400 --out runs/demonstrations
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from drivebyword.core.rig import RigConfig
from drivebyword.core.seeds import require_training_seed
from drivebyword.data.parcel import Parcel, packed, unpacked
from drivebyword.loop.batching import Checkpoint, Networks
from drivebyword.loop.fleet import SCENE_S, Done, run_tasks, with_progress
from drivebyword.loop.remote import run_tasks_on_ray
from drivebyword.loop.rollout import DisturbanceConfig, RescueConfig


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a collection came to."""

    scenes: int
    frames: int
    failed: tuple[str, ...]
    seconds: float
    ended: dict[str, int]
    successes: int
    """Scenes driven with success as `metrics.score` judges it, disturbances included."""
    cpu: dict[str, float] = field(default_factory=dict)
    """CPU-seconds of the worlds' processes, by what they were for; empty where nobody counted."""


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
    started, frames, successes, failed, ended = time.monotonic(), 0, 0, list[str](), dict[str, int]()
    # Whoever learns meanwhile from what a checkpoint drives goes first.
    nice = 0 if config.checkpoint is None else 10
    drive = _drive_here if config.workers is None else _drive_there
    for done in with_progress(drive(config, rig, todo, nice), len(todo), show_progress, lambda value: value[0]):
        if done.error is not None:
            failed.append(f"seed {done.task}: {done.error}")
            continue
        frames += done.value[0]
        ended[done.value[1]] = ended.get(done.value[1], 0) + 1
        successes += done.value[2]
    if config.finalize:
        writer.finalize()
    return Collected(
        scenes=len(todo) - len(failed),
        frames=frames,
        failed=tuple(failed),
        seconds=time.monotonic() - started,
        ended=ended,
        successes=successes,
    )


def _drive_here(config: CollectConfig, rig: RigConfig, todo: list[int], nice: int) -> Iterator[Done[int]]:
    """Drive on this machine's cores."""
    with Networks(config.processes, nice) as networks:
        driver = networks.serve(Checkpoint(config.checkpoint)) if config.checkpoint is not None and todo else None
        make = partial(_make_worker, config, rig, driver)
        yield from run_tasks(make, todo, networks.worlds, nice, limit_s=SCENE_S, tend=networks.tend)


def _drive_there(config: CollectConfig, rig: RigConfig, todo: list[int], nice: int) -> Iterator[Done[int]]:
    """Drive on a cluster's cores; episodes come home as they were recorded there."""
    assert config.workers is not None
    make = partial(_make_distant_worker, config, rig)
    for done in run_tasks_on_ray(config.workers, make, todo, config.checkpoint, nice, limit_s=SCENE_S):
        if done.error is not None:
            yield done
            continue
        value, parcel = done.value
        unpacked(parcel, config.out)
        yield replace(done, value=value)


def _make_distant_worker(
    config: CollectConfig, rig: RigConfig, checkpoint: Checkpoint | None
) -> Callable[[int], tuple[tuple[int, str, bool], Parcel]]:
    """Return what drives one seed and sends its part along."""
    folder = tempfile.TemporaryDirectory(prefix="drivebyword-")
    work = _make_worker(replace(config, out=Path(folder.name)), rig, checkpoint)

    def work_and_pack(seed: int) -> tuple[tuple[int, str, bool], Parcel]:
        return work(seed), packed(Path(folder.name))

    return work_and_pack


def _make_worker(
    config: CollectConfig, rig: RigConfig, checkpoint: Checkpoint | None
) -> Callable[[int], tuple[int, str, bool]]:
    """Return what drives one seed, writes its part and says how long it was, how it ended and if well."""
    from drivebyword.data.dataset import DatasetWriter
    from drivebyword.loop.driver import Policy, driver_in
    from drivebyword.loop.rollout import ExpertPolicy, run_episode
    from drivebyword.metrics import score
    from drivebyword.world.env import DrivingEnv

    env = DrivingEnv(rig=rig)
    writer = DatasetWriter(config.out, rig=rig)
    policy: Policy = ExpertPolicy(env) if checkpoint is None else checkpoint()
    driver = driver_in(env, policy, config.guarded)

    def work(seed: int) -> tuple[int, str, bool]:
        episode = run_episode(
            env,
            driver,
            seed=seed,
            scenario=config.scenario,
            name="expert" if config.checkpoint is None else "policy",
            disturbance=config.disturbance,
            rescue=config.rescue,
            keep_sensors=True,
        )
        writer.add(episode)
        return len(episode), episode.ended, score(episode)["success"] > 0.5

    return work
