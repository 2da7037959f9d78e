"""A row of the log in, what a person watches out: losses, success on scenes of its own, speeds, time left.

On a terminal one table that is drawn anew; elsewhere one line a row.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from drivebyword.core.rates import Rate

_SPEEDS = ("step", "decisions", "seconds", "learning_rate", "decisions_per_s", "frames_per_s", "left_s")


class Progress:
    """Shows the newest row, if at all."""

    def __init__(self, show: bool, total: int, console: Console | None = None) -> None:
        self.show, self.total, self.console = show, total, console or Console()
        self.success: dict[str, Rate] = {}
        """Of whom -> the newest rate of success."""
        self._live: Live | None = None

    def row(self, row: dict[str, Any]) -> None:
        """Show a row."""
        if not self.show:
            return
        if not self.console.is_terminal:
            self.console.print(self.line(row), markup=False, highlight=False, soft_wrap=True)
            return
        if self._live is None:
            self._live = Live(console=self.console, auto_refresh=False)
            self._live.start()
        self._live.update(self.table(row), refresh=True)

    def line(self, row: dict[str, Any]) -> str:
        """Return a row as one line."""
        rates = "".join(f"  {whose} {_told(rate)}" for whose, rate in self.success.items())
        return (
            f"step {row['step']}/{self.total}  loss {row['loss']:.3f}  act {row['act']:.3f}{rates}  "
            f"{row['decisions_per_s']:.0f} samples/s  {row['frames_per_s']:.0f} frames/s  {_left(row)} left"
        )

    def table(self, row: dict[str, Any]) -> Table:
        """Return a row as a table: every part of the loss and of the reward, every rate."""
        table = Table(title=f"step {row['step']} of {self.total}, {_left(row)} of steps left", show_header=False)
        for name, value in row.items():
            if name not in _SPEEDS:
                table.add_row(name.replace("_", " "), f"{value:.4f}")
        for whose, rate in self.success.items():
            table.add_row(f"success, {whose}", _told(rate))
        table.add_row("learning", f"{row['decisions_per_s']:.0f} samples/s")
        table.add_row("driving", f"{row['frames_per_s']:.0f} frames/s")
        return table

    def say(self, text: str) -> None:
        """Print a line above the table."""
        if self.show:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def rest(self) -> None:
        """Leave the terminal to others; the next row takes it again."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def _told(rate: Rate) -> str:
    return f"{rate.k}/{rate.n} = {100 * rate.rate:.0f} % [{100 * rate.low:.0f}, {100 * rate.high:.0f}]"


def _left(row: dict[str, Any]) -> str:
    minutes = row["left_s"] / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
