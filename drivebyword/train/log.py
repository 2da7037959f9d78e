"""Losses and speeds in; JSON lines, TensorBoard events and one live line of progress out."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from drivebyword.data.files import read_json
from drivebyword.train.collect import Collected
from drivebyword.train.state import RunState


class TrainLog:
    """Appends to `log.jsonl`, `curve.jsonl` and TensorBoard; shows decisions per second and time left."""

    every = 20

    def __init__(self, out: Path, step: int, show: bool) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.out, self.show = out, show
        self.events = SummaryWriter(str(out / "tensorboard"), purge_step=step)
        self.sums: dict[str, float] = {}
        self.count, self.since, self.decisions = 0, time.monotonic(), 0
        self._drop_after(step)

    def _drop_after(self, step: int) -> None:
        """Forget lines past the state that is resumed, so that no step is logged twice."""
        path = self.out / "log.jsonl"
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if json.loads(line).get("step", 0) <= step]
            path.write_text("".join(line + "\n" for line in kept))

    def step(self, state: RunState, total: int, losses: dict[str, float], rate: float, norm: float) -> None:
        """Count one step; every few, write a line."""
        for name, value in {**losses, "grad_norm": norm}.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1
        if self.count < self.every and state.step != total:
            return
        now = time.monotonic()
        speed = (state.decisions - self.decisions) / (now - self.since) if self.decisions else 0.0
        row: dict[str, Any] = {"step": state.step, "decisions": state.decisions, "seconds": round(state.seconds, 1)}
        row |= {name: round(value / self.count, 5) for name, value in self.sums.items()}
        row |= {"learning_rate": rate, "decisions_per_s": round(speed, 1)}
        with (self.out / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        for name, value in row.items():
            self.events.add_scalar(name, value, state.step)
        if self.show:
            left = (total - state.step) * (now - self.since) / self.count
            print(
                f"step {state.step}/{total}  loss {row['loss']:.3f}  act {row['act']:.3f}  "
                f"{speed:.0f} decisions/s  {left / 60:.0f} min of steps left",
                flush=True,
            )
        self.sums, self.count, self.since, self.decisions = {}, 0, now, state.decisions

    def note(self, text: str) -> None:
        """Write one line about driving."""
        if self.show:
            print(text, flush=True)
        with (self.out / "notes.txt").open("a") as file:
            file.write(text + "\n")
        self.since = time.monotonic()

    def point(self, driver: Path, driven: Collected, rescued: bool) -> None:
        """Add a point to the learning curve: how the policy of `driver` fared in scenes new to it.

        Where it was rescued, an expert took over before it failed: that success is not its own.
        """
        counted = driven.scenes + len(driven.failed)  # what a lost worker did not bring home is no success
        point = read_json(driver / "at.json") | {"successes": driven.successes, "scenes": counted}
        point["failed"] = len(driven.failed)
        point["rescued"] = rescued
        with (self.out / "curve.jsonl").open("a") as file:
            file.write(json.dumps(point | {"ended": driven.ended}) + "\n")

    def close(self) -> None:
        """Flush."""
        self.events.close()
