"""Losses and speeds in; JSON lines, experiment trackers and what a person watches out."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from drivebyword.core.rates import Rate, wilson
from drivebyword.data.files import read_json
from drivebyword.train.drives import Collected
from drivebyword.train.progress import Progress
from drivebyword.train.state import RunState
from drivebyword.train.trackers import open_trackers


class TrainLog:
    """Appends to `log.jsonl` and `curve.jsonl`, tells the trackers, shows how it goes."""

    every = 20

    def __init__(self, out: Path, step: int, total: int, show: bool, trackers: tuple[str, ...] = ()) -> None:
        self.out, self.total = out, total
        out.mkdir(parents=True, exist_ok=True)
        self.progress = Progress(show, total)
        self.trackers = open_trackers(trackers, out, step) if trackers else []
        self.sums: dict[str, tuple[float, int]] = {}
        self.count, self.since, self.decisions = 0, time.monotonic(), 0
        self.frames_per_s = 0.0
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
            held, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = (held + value, count + 1)
        self.count += 1
        if self.count < self.every and state.step != total:
            return
        now = time.monotonic()
        speed = (state.decisions - self.decisions) / (now - self.since) if self.decisions else 0.0
        row: dict[str, Any] = {"step": state.step, "decisions": state.decisions, "seconds": round(state.seconds, 1)}
        # Not every step has every loss: practice comes in later rounds.
        row |= {name: round(value / count, 5) for name, (value, count) in self.sums.items()}
        row |= {"learning_rate": rate, "decisions_per_s": round(speed, 1), "frames_per_s": round(self.frames_per_s, 1)}
        row["left_s"] = round((total - state.step) * (now - self.since) / self.count)
        with (self.out / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        rates = {f"success_{whose}": rate.rate for whose, rate in self.progress.success.items()}
        for tracker in self.trackers:
            tracker.log({**row, **rates}, step=state.step)
        self.progress.row(row)
        self.sums, self.count, self.since, self.decisions = {}, 0, now, state.decisions

    def note(self, text: str) -> None:
        """Write one line about driving."""
        self.progress.say(text)
        with (self.out / "notes.txt").open("a") as file:
            file.write(text + "\n")
        self.since = time.monotonic()

    def drove(self, done: Collected, what: str) -> None:
        """Note what was driven, if anything was."""
        if done.scenes or done.failed:
            self.note(
                f"drove {done.scenes} {what}, {done.frames} frames in {done.seconds:.0f} s, {done.successes} "
                f"successes: {done.ended}" + (f"; failed: {done.failed[:3]}" if done.failed else "")
            )

    def point(self, driver: Path, driven: Collected, rescued: bool) -> None:
        """Add a point to the learning curve: how the policy of `driver` fared in scenes new to it.

        Where it was rescued, an expert took over before it failed: that success is not its own.
        """
        counted = driven.scenes + len(driven.failed)  # what a lost worker did not bring home is no success
        point = read_json(driver / "at.json") | {"successes": driven.successes, "scenes": counted}
        point["failed"] = len(driven.failed)
        point["rescued"] = rescued
        self.frames_per_s = driven.frames / max(driven.seconds, 1e-9)
        self.progress.success["rollouts"] = wilson(driven.successes, counted)
        with (self.out / "curve.jsonl").open("a") as file:
            file.write(json.dumps(point | {"ended": driven.ended}) + "\n")

    def validated(self, driver: Path, rate: Rate) -> None:
        """Add how the policy of `driver` fared in validation scenes, alone."""
        self.progress.success["validation"] = rate
        with (self.out / "validation.jsonl").open("a") as file:
            found = {"successes": rate.k, "scenes": rate.n, "low": round(rate.low, 4), "high": round(rate.high, 4)}
            file.write(json.dumps(read_json(driver / "at.json") | found) + "\n")

    def close(self) -> None:
        """Flush."""
        self.progress.rest()
        for tracker in self.trackers:
            tracker.finish()
