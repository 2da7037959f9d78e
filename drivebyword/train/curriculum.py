"""What to practise next: how scenes of each family went in, the next scenes out, most where most fails.

A share of the scenes goes to every family alike, so that nothing is forgotten; the rest by failures. Within a family
some scenes are those that failed before, the others are new. A plan is a function of this state, the seed and the
round; the state is a few numbers and is saved with the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from drivebyword.core.seeds import TRAIN_SEEDS, require_training_seed
from drivebyword.world.families import HELD_OUT


class Scene(NamedTuple):
    """One scene to practise in."""

    scenario: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CurriculumConfig:
    """Where to look for failures."""

    families: tuple[str, ...] = ("town-mixed",)
    """Scenarios to choose from: towns and open families; a held-out one is an error."""
    floor: float = 0.3
    """Share of the scenes that every family gets alike, whether it fails there or not."""
    again: float = 0.5
    """Probability that a scene is one that failed before, where there is one."""
    keep: float = 0.7
    """What counts of older rounds' outcomes, each round."""
    scenes: tuple[tuple[str, int], ...] = ()
    """Scenes to begin with as if they had failed: variants of what failed elsewhere."""

    def __post_init__(self) -> None:
        """Refuse what may not be trained on."""
        if not self.families or not 0.0 <= self.floor <= 1.0 or not 0.0 <= self.again <= 1.0:
            raise ValueError("a curriculum needs a family, and shares in [0, 1]")
        for scenario in self.families:
            require_training_seed(0, scenario, HELD_OUT)
        for scenario, seed in self.scenes:
            require_training_seed(seed, scenario, HELD_OUT)


_REMEMBERED = 64
"""Failed scenes kept a family."""


@dataclass(slots=True)
class Curriculum:
    """How each family went so far."""

    config: CurriculumConfig
    tries: dict[str, float] = field(default_factory=dict)
    failures: dict[str, float] = field(default_factory=dict)
    failed: dict[str, list[int]] = field(default_factory=dict)
    """Seeds that failed at least once and have not since gone well every time, oldest first."""

    def __post_init__(self) -> None:
        """Begin with the scenes that are said to fail."""
        for scenario, seed in self.config.scenes:
            self.failed.setdefault(scenario, []).append(seed)

    def shares(self) -> dict[str, float]:
        """Return how often each family comes up."""
        names = self.config.families
        # One failure in two is believed of what was never tried.
        rates = np.array([(self.failures.get(n, 0.0) + 0.5) / (self.tries.get(n, 0.0) + 1.0) for n in names])
        mixed = self.config.floor / len(names) + (1.0 - self.config.floor) * rates / rates.sum()
        return dict(zip(names, mixed.tolist(), strict=True))

    def plan(self, count: int, seed: int, number: int) -> list[Scene]:
        """Return the scenes of a round, each once. `number` is the round's."""
        rng = np.random.default_rng([seed, number, 31])
        shares = self.shares()
        chosen: list[Scene] = []
        for name in rng.choice(list(shares), size=count, p=np.array(list(shares.values()))):
            old = [s for s in self.failed.get(str(name), []) if Scene(str(name), s) not in chosen]
            anew, pick = rng.random() >= self.config.again or not old, int(rng.integers(TRAIN_SEEDS.stop))
            while anew and Scene(str(name), pick) in chosen:
                pick = int(rng.integers(TRAIN_SEEDS.stop))
            chosen.append(Scene(str(name), pick if anew else old[pick % len(old)]))
        return chosen

    def learn(self, outcomes: Mapping[Scene, float]) -> None:
        """Take in a round: the share of each scene's rollouts that failed."""
        for name in self.tries:
            self.tries[name] *= self.config.keep
            self.failures[name] *= self.config.keep
        for scene, failed in outcomes.items():
            name, seed = scene
            self.tries[name] = self.tries.get(name, 0.0) + 1.0
            self.failures[name] = self.failures.get(name, 0.0) + failed
            known = [s for s in self.failed.get(name, []) if s != seed]
            self.failed[name] = [*known, seed][-_REMEMBERED:] if failed > 0 else known

    def state(self) -> dict[str, Any]:
        """Return plain values."""
        return {"tries": self.tries, "failures": self.failures, "failed": self.failed}
