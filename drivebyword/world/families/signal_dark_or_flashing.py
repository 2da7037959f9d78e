"""The signals of a junction are out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from drivebyword.world.cast import CAR, Actor, Beat, after, arrives
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
        path, meets, at = stage.crossing
        pace, later = stage.draw(self.crossing_kph) / 3.6, 0.0
        if stage.twin:
            stage.green()
        for k in range(int(stage.draw((1.0, 3.99)))):
            first = Beat(when=arrives(at, min(meets / pace, 7.0), least_speed=4.0))
            comes = Beat(when=after(later), speed=pace, accel=1000.0, edge=k == 0)
            s = max(meets - 7.0 * pace, 0.0)
            stage.edge(Actor(name=f"crossing {k}", body=CAR, path=path, s=s, enters=2, beats=(first, comes)))
            later += stage.draw(self.gap_s)
