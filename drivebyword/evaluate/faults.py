"""Processes killed and stopped while a policy trains: nothing in, whether training finished and what it cost out.

A real run: a policy begins with nothing, drives and learns, its worlds around one network. Meanwhile worlds' processes
are killed (SIGKILL) and stopped (SIGSTOP) at random moments, and so is the network's. Every scene must be driven or
counted.
"""

from __future__ import annotations

import json
import multiprocessing as mp
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from drivebyword.evaluate.report import commit, machine

if TYPE_CHECKING:
    from drivebyword.train.loop import TrainConfig

KILLED, STOPPED, SCENES, PAUSE_S, GROWN_S = 20, 20, 100, 4.0, 20.0


class Misfortune(Thread):
    """Kills and stops processes that this one started, one after another, at random moments.

    Args:
        faults: Signals to send, in this order.
        pause_s: How long to leave them alone in between, from none to twice as long.
        grown_s: Who is younger is spared: most of a short life would be its start.
        name: Of the processes.
        after: Nothing happens before this file is there.
        fit: Tells of a process's number whether it may be struck.
    """

    def __init__(
        self,
        faults: list[signal.Signals],
        pause_s: float,
        grown_s: float = 0.0,
        name: str = "drivebyword worker",
        after: Path | None = None,
        fit: Callable[[int], bool] = lambda pid: True,
    ) -> None:
        super().__init__(daemon=True)
        self.after, self.fit = after, fit
        self.faults, self.pause_s, self.grown_s, self.of = faults, pause_s, grown_s, name
        self.struck: list[tuple[int, signal.Signals]] = []
        self.seen: dict[int, float] = {}
        self.over = Event()

    def spare(self) -> None:
        """Strike nobody any more: whatever is left would meet other work."""
        self.over.set()
        self.join()

    def run(self) -> None:
        """Strike."""
        dice = random.Random(7)
        while self.after is not None and not self.after.exists() and not self.over.is_set():
            time.sleep(0.5)
        for fault in self.faults:
            time.sleep(dice.uniform(0, 2 * self.pause_s))
            while not (grown := self.grown()) and not self.over.is_set():
                time.sleep(0.02)
            if self.over.is_set():
                return
            chosen = dice.choice(grown)
            os.kill(chosen, fault)
            self.struck.append((chosen, fault))

    def grown(self) -> list[int]:
        """Return who is old enough and was not struck before."""
        now, hit = time.monotonic(), {pid for pid, _ in self.struck}
        pids = [child.pid for child in mp.active_children() if child.name == self.of]
        ages = {pid: now - self.seen.setdefault(pid, now) for pid in pids if pid is not None}
        return [pid for pid, age in ages.items() if pid not in hit and age >= self.grown_s and self.fit(pid)]


def bench_faults(config: TrainConfig, share: float = 1.0) -> dict[str, Any]:
    """Return the report of `share` of the faults and scenes, in a short run of `config`'s policy."""
    from drivebyword.train.loop import train
    from drivebyword.train.rounds import RoundConfig

    killed, stopped, scenes = (max(1, round(n * share)) for n in (KILLED, STOPPED, SCENES))
    faults = [signal.SIGKILL] * killed + [signal.SIGSTOP] * stopped
    random.Random(1).shuffle(faults)
    rounds = (
        RoundConfig(demonstrations=0 if config.data else 2, rollouts=scenes, steps=20, batch=8),
        RoundConfig(steps=20, batch=8),
    )
    config = replace(config, rounds=rounds)
    with tempfile.TemporaryDirectory(prefix="drivebyword-faults-") as folder:
        driving = Path(folder) / "round-0" / "driver" / "manifest.json"
        worlds = Misfortune(faults, PAUSE_S, GROWN_S, after=driving)
        both = [signal.SIGKILL, signal.SIGSTOP]
        network = Misfortune(both, 15 * PAUSE_S, GROWN_S, "drivebyword network", after=driving)
        worlds.start()
        network.start()
        begun = time.monotonic()
        out = train(config, Path(folder), show_progress=False)
        seconds = time.monotonic() - begun
        points = [json.loads(line) for line in (Path(folder) / "curve.jsonl").read_text().splitlines()]
        steps = [json.loads(line) for line in (Path(folder) / "log.jsonl").read_text().splitlines()][-1]["step"]
        finished = (out / "manifest.json").exists()
    counted = sum(point["scenes"] for point in points)
    struck = {fault: sum(one == fault for _, one in worlds.struck) for fault in (signal.SIGKILL, signal.SIGSTOP)}
    rows = {
        "worlds killed": {"value": struck[signal.SIGKILL], "unit": "times", "floor": killed},
        "worlds stopped": {"value": struck[signal.SIGSTOP], "unit": "times", "floor": stopped},
        "networks killed or stopped": {"value": len(network.struck), "unit": "times"},
        "training finished": {"value": int(finished), "unit": "runs of 1", "floor": 1},
        "optimiser steps": {"value": steps, "unit": "steps", "floor": config.steps},
        "scenes": {"value": counted, "unit": f"scenes driven or counted as failed, of {scenes}", "floor": scenes},
        "scenes failed": {"value": sum(point["failed"] for point in points), "unit": "scenes"},
        "the whole run": {"value": round(seconds), "unit": "s of the clock"},
    }
    return {"bench": "faults", "machine": machine(), "commit": commit(), "rows": rows}
