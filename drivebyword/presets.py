"""Complete runs by name: functions that return a whole configuration; a variant is `dataclasses.replace`."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drivebyword.train.loop import TrainConfig


def tiny() -> TrainConfig:
    """Return the shipped policy's run: two and a half hours on two CPU cores, from nothing."""
    from drivebyword.loop.rollout import DisturbanceConfig, RescueConfig
    from drivebyword.model.policy import PolicyConfig
    from drivebyword.train.loop import RoundConfig, TrainConfig
    from drivebyword.world import rigs

    rig = rigs.tiny()
    # Scenes are cheap, and a policy shown few of them learns the towns by heart (docs/LOG.md, 2026-11-22). From the
    # second round on it drives; an expert that takes over early keeps the young policy's scenes going, one that waits
    # lets the older one reach the states it must learn to return from. Windows of several frames are `frames=3`.
    early, late = RescueConfig(), RescueConfig(steering_gap=0.7, sideways=25.0, lane_offset=2.0, standing_s=6.0)
    young = (early, late, early, late, None, late, early, late, None, late)
    # Towards the end it drives alone every second time, under the guard in turn: who is judged both ways learns both.
    grown = ((late, False), (None, True), (late, True), (None, False))
    pushed = DisturbanceConfig(every_s=5.0, duration_s=(0.4, 1.8), steering=0.5)
    rounds = (
        RoundConfig(demonstrations=500, steps=800),
        RoundConfig(demonstrations=100, disturbance=pushed, rollouts=20, rescue=early, steps=600),
        *(RoundConfig(rollouts=20, rescue=rescue, steps=600) for rescue in young),
        *(RoundConfig(rollouts=24, rescue=rescue, guarded=guarded, steps=600) for rescue, guarded in grown * 3),
        RoundConfig(steps=400),
    )
    return TrainConfig(name="tiny", rig=rig, policy=PolicyConfig(rig=rig), rounds=rounds)


def random_reader() -> TrainConfig:
    """Return the control run for the reader: the shipped policy behind a language model that never learned anything.

    It begins with a finished run's weights and its recordings (`--start`, `--data`), and learns the meaningless words.
    """
    from dataclasses import replace

    from drivebyword.model.reader import ReaderConfig
    from drivebyword.train.loop import RoundConfig

    base = tiny()
    policy = replace(base.policy, reader=ReaderConfig(weights="random"))
    rounds = (RoundConfig(steps=900),)
    return replace(base, name="random-reader", policy=policy, rounds=rounds, warmup=50, cooldown=0.9)


PRESETS: dict[str, Callable[[], TrainConfig]] = {"tiny": tiny, "random-reader": random_reader}


def preset(name: str) -> TrainConfig:
    """Return a preset by name; ValueError names the nearest for an unknown one."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, 1, 0.3) or sorted(PRESETS)
        raise ValueError(f"unknown preset {name!r}; did you mean {near[0]!r}? There are: {', '.join(sorted(PRESETS))}")
    return PRESETS[name]()
