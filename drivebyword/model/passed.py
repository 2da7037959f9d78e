"""How many junctions were passed since the sentence was typed: `the second left` hangs on it, and no frame shows it.

In: how near a junction is, decision by decision, as the policy itself sees it (in training, as it was). Out: a
count. Odometry does not tell: the first junction comes after 50 to 210 m, the second after 130 to 450.
"""

from __future__ import annotations

from dataclasses import dataclass

from drivebyword.core.records import AFFORDANCES

JUNCTION = AFFORDANCES.index("junction")
INSIDE, CLEAR = 0.8, 0.4
"""Nearness (`world.sight`: 1 inside, exp(-metres / 15) before) above which the car is at a junction, and below
which it has left it."""


@dataclass(slots=True)
class Passed:
    """Counts from decision to decision."""

    nearness: float = 0.0
    inside: bool = False
    left: int = 0

    def hear(self) -> None:
        """Begin anew with a new sentence: the junction the car is at is none of those it speaks of."""
        self.inside = self.nearness > CLEAR
        self.left = -1 if self.inside else 0

    def see(self, nearness: float) -> None:
        """Take in one decision's view, in [0, 1]."""
        self.nearness = nearness
        if nearness > INSIDE:
            self.inside = True
        elif self.inside and nearness < CLEAR:
            self.inside, self.left = False, self.left + 1

    @property
    def junctions(self) -> int:
        """Junctions passed."""
        return max(self.left, 0)
