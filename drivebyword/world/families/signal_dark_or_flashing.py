"""The signals of a junction are out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from drivebyword.world.asks import leaves_time
from drivebyword.world.family import Family
from drivebyword.world.stage import Range, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalDarkOrFlashing(Family):
    """All heads off, up to three cars crossing: whoever comes first goes first, and nobody insists."""

    name: ClassVar[str] = "signal_dark_or_flashing"
    source: ClassVar[str] = "NHTSA crossing paths at a failed signal; MUTCD part 4"
    held_out: ClassVar[bool] = True
    crossing_kph: Range = (25.0, 40.0)
    gap_s: Range = (3.0, 6.0)

    def build(self, stage: Stage) -> None:
        """Switch the signals off and let cars cross as the ego comes."""
        stage.at_junction("straight", before=60.0, signal=True, crossed=True)
        stage.signals_off = not stage.twin
        if stage.twin:
            stage.green()
        stage.ask(leaves_time(1.5))
        pace = stage.draw(self.crossing_kph) / 3.6
        stage.stream("crossing", int(stage.draw((1.0, 3.99))), pace, self.gap_s, 7.0)
