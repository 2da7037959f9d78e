"""Complete runs by name: functions that return a whole configuration; a variant is `dataclasses.replace`."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drivebyword.train.loop import TrainConfig


def tiny() -> TrainConfig:
    """Return the shipped policy's run: two CPU cores, at most 2.5 hours from nothing."""
    from drivebyword.model.policy import PolicyConfig
    from drivebyword.train.loop import RoundConfig, TrainConfig
    from drivebyword.world import rigs

    rig = rigs.tiny()
    # Single frames first, memory later; the policy drives from the second round on (docs/LOG.md, 2026-11-22).
    rounds = (
        RoundConfig(demonstrations=150, steps=700),
        RoundConfig(rollouts=20, expert_share=0.5, steps=400),
        RoundConfig(rollouts=24, expert_share=0.2, steps=500),
        *(RoundConfig(rollouts=30, steps=600) for _ in range(5)),
        *(RoundConfig(rollouts=30, steps=500, frames=3, batch=14) for _ in range(3)),
        RoundConfig(steps=900, frames=3, batch=14),
    )
    return TrainConfig(name="tiny", rig=rig, policy=PolicyConfig(rig=rig), rounds=rounds)


PRESETS: dict[str, Callable[[], TrainConfig]] = {"tiny": tiny}


def preset(name: str) -> TrainConfig:
    """Return a preset by name; ValueError names the nearest for an unknown one."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, 1, 0.3) or sorted(PRESETS)
        raise ValueError(f"unknown preset {name!r}; did you mean {near[0]!r}? There are: {', '.join(sorted(PRESETS))}")
    return PRESETS[name]()
