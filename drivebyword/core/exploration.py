"""Driving by lot, so that there is something to compare: a scene and a rollout's number in, uniform numbers out.

A policy that is practising draws its reason and act from its own distribution instead of taking the likeliest. The
numbers it draws by come from here, one for each token, and depend on nothing but the scene's seed and the rollout's
number: whoever decides, in whatever batch, draws the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplorationConfig:
    """How much is left to the lot."""

    temperature: float = 1.0
    """The logits are divided by it before they are drawn from: below 1 the unlikely becomes rarer."""
    share: float = 1.0
    """Share of decisions that are drawn; at the others the car does what it would do when it is judged."""
    stretch: int = 5
    """Decisions drawn in a row, where not all are: a single drawn one is soon undone by the next."""

    def __post_init__(self) -> None:
        """Refuse what nothing could be drawn by."""
        if not self.temperature > 0.0 or not 0.0 < self.share <= 1.0 or self.stretch < 1:
            raise ValueError(
                f"exploration needs temperature > 0, share in (0, 1] and stretch >= 1, got temperature "
                f"{self.temperature:g}, share {self.share:g}, stretch {self.stretch}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """Which of a scene's rollouts this is, and how it draws; kept with its episode."""

    rollout: int
    """Number within the group of rollouts of one scene."""
    config: ExplorationConfig = ExplorationConfig()


@dataclass(frozen=True, slots=True)
class Choice:
    """What a decision was drawn from, for whoever learns from it."""

    log_prob: float
    """Of the reason and the triple that is driven, under the network that drove; NaN where nothing was drawn."""
    passed: int
    """Junctions passed since the sentence, as the driver itself counted them: the network saw this number."""


class Lots:
    """The uniform numbers of one rollout, decision by decision."""

    def __init__(self, exploration: Exploration, seed: int, tokens: int) -> None:
        self.config, self.tokens = exploration.config, tokens
        self._rng = np.random.default_rng([seed, exploration.rollout, 23])
        self._left = 0

    def next(self) -> Float[np.ndarray, " A"] | None:
        """Return one number in [0, 1) for each token of the next decision; None: nothing is drawn."""
        lots, begins = self._rng.random(self.tokens), self._rng.random()
        if self.config.share < 1.0:
            # Stretches begin as often as makes drawn decisions the wanted share of all.
            rate = self.config.share / (self.config.stretch * (1.0 - self.config.share) + self.config.share)
            if self._left == 0 and begins < rate:
                self._left = self.config.stretch
            if self._left == 0:
                return None
            self._left -= 1
        return lots
