"""Complete runs by name: functions that return a whole configuration; a variant is `dataclasses.replace`."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drivebyword.train.loop import TrainConfig


def tiny() -> TrainConfig:
    """Return the shipped policy's run: two and a half hours on two CPU cores, from nothing."""
    from drivebyword.loop.rollout import RescueConfig
    from drivebyword.model.policy import PolicyConfig
    from drivebyword.train.loop import RoundConfig, TrainConfig
    from drivebyword.world import rigs

    rig = rigs.tiny()
    # The policy drives from the second round on; in all but three rounds an expert takes over before it fails
    # (docs/LOG.md, 2026-11-22). Windows of several frames are not trained yet: that is `frames=3`.
    alone = (7, 12, 18)
    sizes = [(13, 550)] * 7 + [(10, 650)] * 8 + [(13, 650)] * 8
    rounds = (
        RoundConfig(demonstrations=140, steps=700),
        *(
            RoundConfig(rollouts=rollouts, rescue=None if k in alone else RescueConfig(), steps=steps)
            for k, (rollouts, steps) in enumerate(sizes, 1)
        ),
        RoundConfig(steps=2000),
    )
    return TrainConfig(name="tiny", rig=rig, policy=PolicyConfig(rig=rig), rounds=rounds)


PRESETS: dict[str, Callable[[], TrainConfig]] = {"tiny": tiny}


def preset(name: str) -> TrainConfig:
    """Return a preset by name; ValueError names the nearest for an unknown one."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, 1, 0.3) or sorted(PRESETS)
        raise ValueError(f"unknown preset {name!r}; did you mean {near[0]!r}? There are: {', '.join(sorted(PRESETS))}")
    return PRESETS[name]()
