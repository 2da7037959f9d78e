"""Run as a program by test_sharding: a small policy learns, in as many processes as torchrun starts.

From recordings, or with `practice` in their place from what it drives by lot and what the expert shows it:
python sharded_run.py OUT DATA LAST [STOP]
"""

import dataclasses
import json
import os
import sys
from pathlib import Path

from train_small import small

from drivebyword.train import loop
from drivebyword.train.loop import TrainConfig
from drivebyword.train.rounds import RoundConfig


class Watched(loop._Run):
    """Writes down every loss to the last digit; may end without a word in the middle of the run."""

    stop: int | None = None

    def _step(self, *given):
        losses, norm = super()._step(*given)
        if self.ranks.first:
            with (self.out / "losses.jsonl").open("a") as file:
                file.write(json.dumps({"step": self.state.step, "grad_norm": norm, **losses}) + "\n")
        return losses, norm

    def _save(self):
        super()._save()
        if self.state.step == self.stop:
            os._exit(0)


def config(data: Path, steps: int) -> TrainConfig:
    if str(data) == "practice":
        return dataclasses.replace(small(steps), half=False)
    rounds = (RoundConfig(steps=steps, batch=8, frames=2),)
    return dataclasses.replace(small(), data=(data,), layout="l2d", rounds=rounds, half=False)


if __name__ == "__main__":
    out, data, steps = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    run = Watched(config(data, steps), out, False)
    run.stop = int(sys.argv[4]) if len(sys.argv) > 4 else None
    run.run()
