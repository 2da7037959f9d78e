"""Scenes in, groups of own rollouts on disk and what can be learned from them out.

Every scene is driven several times by the same checkpoint, each time by other lots; every rollout is one part on
disk, so a killed run, started again, drives only what is missing. The expert labels the states they reach all the
same: own rollouts are relabelled demonstrations too, in the same batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from drivebyword.core.exploration import Exploration, ExplorationConfig, Lots
from drivebyword.core.records import Episode
from drivebyword.core.seeds import require_training_seed
from drivebyword.loop.batching import Checkpoint
from drivebyword.metrics import edge_case, still_success
from drivebyword.tokens.action import ActionGrammar
from drivebyword.train.credit import CreditConfig, group_advantages
from drivebyword.train.curriculum import Scene
from drivebyword.train.drives import Collected, Crew, counted, drive_all
from drivebyword.train.loss import Wordings
from drivebyword.train.reinforce import Experience
from drivebyword.train.table import FrameTable

if TYPE_CHECKING:
    from drivebyword.world.env import DrivingEnv


@dataclass(frozen=True, slots=True, kw_only=True)
class PracticeConfig:
    """What a round practises."""

    scenes: int = 8
    """Groups."""
    rollouts: int = 6
    """Rollouts of each scene."""
    exploration: ExplorationConfig = ExplorationConfig()
    guarded: bool = False
    seconds: float | None = None
    """A rollout is cut here; None lets it drive to the end of its scene."""
    credit: CreditConfig = CreditConfig()


Task = tuple[Scene, int]
"""A scene and the rollout's number in its group."""


def rollout_name(number: int) -> str:
    """Return the driver's name in a rollout's record."""
    return f"policy-{number:02d}"


def practise(crew: Crew, scenes: Sequence[Scene], practice: PracticeConfig, grammar: ActionGrammar) -> Collected:
    """Drive every rollout that is not on disk yet."""
    from drivebyword.data.dataset import DatasetWriter
    from drivebyword.world.families import HELD_OUT

    for scene in scenes:
        require_training_seed(scene.seed, scene.scenario, HELD_OUT)
    writer = DatasetWriter(crew.out, rig=crew.rig)
    wanted = [(scene, number) for scene in scenes for number in range(practice.rollouts)]
    todo = [(s, n) for s, n in wanted if not writer.has(s.scenario, s.seed, rollout_name(n))]
    return counted(drive_all(crew, partial(_prepare, practice, grammar), todo), "rollout")


def _prepare(
    practice: PracticeConfig, grammar: ActionGrammar, env: DrivingEnv, checkpoint: Checkpoint | None
) -> Callable[[Task], Episode]:
    """Return what drives one rollout."""
    from drivebyword.loop.driver import driver_in
    from drivebyword.loop.rollout import run_episode

    assert checkpoint is not None
    policy = checkpoint()
    driver = driver_in(env, policy, practice.guarded)

    def drive(task: Task) -> Episode:
        scene, number = task
        exploration = Exploration(rollout=number, config=practice.exploration)
        policy.lots = Lots(exploration, scene.seed, grammar.length)
        return run_episode(
            env,
            driver,
            seed=scene.seed,
            scenario=scene.scenario,
            name=rollout_name(number),
            exploration=exploration,
            keep_sensors=True,
            seconds=practice.seconds,
        )

    return drive


def read_groups(folder: Path, scenes: Sequence[Scene], rollouts: int) -> dict[Scene, list[Episode]]:
    """Return what was driven in every scene, without what the cameras saw; a rollout that crashed is missing."""
    from drivebyword.data.dataset import part_name, parts, read_part

    there = {part.name: part for part in parts(folder)}
    groups = {}
    for scene in scenes:
        names = [part_name(scene.scenario, scene.seed, rollout_name(n)) for n in range(rollouts)]
        groups[scene] = [read_part(there[n], cameras=(), verify=False) for n in names if n in there]
    return groups


def outcomes(groups: dict[Scene, list[Episode]], rollouts: int) -> dict[Scene, float]:
    """Return the share of each scene's rollouts that failed; one that crashed failed."""
    good = {scene: sum(_went_well(e) for e in group) for scene, group in groups.items()}
    return {scene: 1.0 - count / rollouts for scene, count in good.items()}


def driven_outcomes(folder: Path) -> dict[Scene, float]:
    """Return 1 for every scene of a data set of single rollouts that failed, 0 for the others."""
    from drivebyword.data.dataset import parts, read_part

    driven = [read_part(part, cameras=(), verify=False) for part in parts(folder)]
    return {Scene(e.scenario, e.seed): float(not _went_well(e)) for e in driven}


def _went_well(episode: Episode) -> bool:
    """Tell whether a drive was a success as far as it went, and handled its edge case where that counts."""
    handled, counts = edge_case(episode).get("handled", (False, False))
    return bool(still_success(episode)[-1] > 0.5) and (handled or not counts or episode.ended == "aborted")


def experience(
    groups: dict[Scene, list[Episode]],
    order: list[tuple[str, int, str]],
    table: FrameTable,
    config: PracticeConfig,
    grammar: ActionGrammar,
    wordings: Wordings,
    number: int,
) -> Experience:
    """Return what a round's groups teach, row by row of their table.

    Args:
        groups: Every scene's rollouts.
        order: (scenario, seed, driver) of the episodes in the table, in its order.
        table: Their frames.
        number: The round's.
    """
    found: dict[tuple[str, int, str], tuple[Episode, np.ndarray]] = {}
    for scene, group in groups.items():
        advantages = group_advantages(group, config.credit)
        for k, episode in enumerate(group):
            gained = np.zeros(len(episode)) if advantages is None else advantages[k]
            found[scene.scenario, scene.seed, episode.driver] = (episode, gained)
    episodes = [found[key][0] for key in order]
    log_prob = np.concatenate([_required(e) for e in episodes])
    sentence = np.concatenate([_sentences(e, wordings) for e in episodes])
    gained = np.concatenate([found[key][1] for key in order])
    # What was not drawn, and what was heard in words nobody learns by, teaches nothing here.
    gained[~np.isfinite(log_prob) | (sentence < -1)] = 0.0
    return Experience(
        table=table,
        tokens=np.concatenate([grammar.encode(e.reason, e.act) for e in episodes]),
        log_prob=log_prob,
        advantage=gained.astype(np.float32),
        passed=np.concatenate([e.passed for e in episodes if e.passed is not None]),
        sentence=np.maximum(sentence, -1),
        temperature=config.exploration.temperature,
        round=number,
    )


def _required(episode: Episode) -> np.ndarray:
    if episode.log_prob is None or episode.passed is None:
        raise ValueError(f"the rollout of seed {episode.seed} was not drawn by lot: nothing says how likely it was")
    return episode.log_prob


def _sentences(episode: Episode, wordings: Wordings) -> np.ndarray:
    """Return the row of each frame's sentence among the wordings: -1 for silence, -2 for words not among them."""
    rows = [wordings.row_of.get(i.sentence, -2 if i.sentence else -1) for i in episode.instructions]
    return np.array(rows)[episode.instruction_index]
