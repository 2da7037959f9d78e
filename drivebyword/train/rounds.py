"""One round of a run: what is driven, by whom, and how it is learned from."""

from __future__ import annotations

from dataclasses import dataclass

from drivebyword.loop.rollout import DisturbanceConfig, RescueConfig
from drivebyword.train.practice import PracticeConfig
from drivebyword.train.reinforce import ReinforceConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundConfig:
    """One round: scenes to drive and steps to take."""

    demonstrations: int = 0
    """Scenes the expert drives before the round's first step."""
    scenario: str | None = None
    """What the round's scenes are; None: the run's."""
    disturbance: DisturbanceConfig = DisturbanceConfig()
    """What pushes the car about in the round's scenes, whoever drives."""
    rollouts: int = 0
    """Scenes the policy drives during the round's steps; the expert relabels them for the next round."""
    rescue: RescueConfig | None = None
    """When the expert takes over in the rollouts."""
    guarded: bool = False
    """Drive the rollouts guarded: a guard stops the car in places where no demonstration ever stood."""
    steps: int = 500
    frames: int = 1
    """Frames in a training window."""
    batch: int = 32
    """Windows in a batch."""
    practice: PracticeConfig | None = None
    """Scenes the policy drives several times by lot during the round's steps, for the rounds after it."""
    reinforce: ReinforceConfig = ReinforceConfig()
    """What the round makes of earlier rounds' practice; pure imitation is its beta = 0."""
