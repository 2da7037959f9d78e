"""What every family of edge cases is: ranges, a source and one `build` that sets a scene on a stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from drivebyword.world.stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A recipe for scenes in which one thing happens that a driver meets seldom."""

    name: ClassVar[str]
    source: ClassVar[str]
    """Where the recipe is from: crash typology, consumer test, regulation or benchmark."""
    held_out: ClassVar[bool] = False
    """Kept for judging: the recorder refuses it for training."""

    def build(self, stage: Stage) -> None:
        """Choose the place, draw the parameters and put the actors on the stage."""
        raise NotImplementedError
